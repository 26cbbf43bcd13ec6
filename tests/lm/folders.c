/* Folders that are not what they should be: shards that lead elsewhere, files that change while
 * they are read, a save over what is read, other kinds of files, settings that logpi does not have.
 * Each row says which status comes, and a word of the message. */
#include "lm/folder.h"
#include "tensor/safetensors.h"

#include <errno.h>
#include <fcntl.h>

static lp_status open_and_load(lp_ctx* ctx, const char* path) {
    lp_model* model;
    lp_weights* weights;
    lp_status status = lp_model_open(ctx, path, &model);
    if (status != LP_OK) {
        assert_null(model);
        return status;
    }
    status = lp_model_load_weights(model, false, &weights);
    assert_true((weights != NULL) == (status == LP_OK));
    lp_weights_destroy(weights);
    lp_model_close(model);
    return status;
}

static void expect(lp_ctx* ctx, const char* what, const char* path, lp_status status,
                   const char* word) {
    const lp_status got = open_and_load(ctx, path);
    if (got != status)
        fail_msg("%s: %s, not %s: %s", what, lp_status_name(got), lp_status_name(status),
                 lp_error(ctx));
    if (status != LP_OK && !strstr(lp_error(ctx), word))
        fail_msg("%s: the message has no \"%s\": %s", what, word, lp_error(ctx));
}

/* ---- shards ---------------------------------------------------------------------------------- */

/* An index that has one tensor in each of two places. */
static void write_index(const char* folder, const char* tensor, const char* shard) {
    char text[512];
    snprintf(text, sizeof text, "{\"metadata\": {\"total_size\": 1}, \"weight_map\": {%s: %s}}",
             tensor, shard);
    write_text(in(folder, "model.safetensors.index.json"), text);
}

static void shards_stay_in_the_folder(void** state) {
    (void)state;
    static const struct {
        const char *shard, *word;
    } rows[] = {
        {"\"../../etc/passwd\"", "refused"},
        {"\"/etc/passwd\"", "refused"},
        {"\"sub/model.safetensors\"", "refused"},
        {"\"..\"", "refused"},
        {"\".\"", "refused"},
        {"\"\"", "refused"},
        {"\".hidden.safetensors\"", "refused"},
        {"\"model\\u0000.safetensors\"", "refused"},
        {"\"..\\u002fmodel.safetensors\"", "refused"},
        {"\"link-out\"", "leads out"},
        {"\"link-up\"", "leads out"},
        {"\"missing.safetensors\"", "missing"},
        {"7", "string"},
        {"null", "string"},
    };
    lp_ctx* ctx = lp_ctx_create(NULL, NULL, 0);
    char folder[] = TEMPORARY;
    copy_model("llama", folder);
    assert_int_equal(symlink("/etc/passwd", in(folder, "link-out")), 0);
    assert_int_equal(symlink("..", in(folder, "link-up")), 0);
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        write_index(folder, "\"lm_head.weight\"", rows[i].shard);
        expect(ctx, rows[i].shard, folder, LP_FORMAT, rows[i].word);
    }
    lp_ctx_destroy(ctx);
    remove_folder(folder);
}

/* A link to another file of the folder is one of its files; so is one to the blobs of Hugging
 * Face's cache. */
static void links_that_are_allowed(void** state) {
    (void)state;
    lp_ctx* ctx = lp_ctx_create(NULL, NULL, 0);
    char root[] = TEMPORARY, copy[] = TEMPORARY, snapshot[128], blobs[128], up[128];
    static const char shard[] = "model-00001-of-00002.safetensors";
    copy_model("llama", copy);
    assert_int_equal(rename(in(copy, shard), in(copy, "first")), 0);
    assert_int_equal(symlink("first", in(copy, shard)), 0);
    expect(ctx, "a link inside", copy, LP_OK, "");

    assert_non_null(mkdtemp(root));
    snprintf(up, sizeof up, "%s/snapshots", root);
    snprintf(snapshot, sizeof snapshot, "%s/snapshots/abc", root);
    snprintf(blobs, sizeof blobs, "%s/blobs", root);
    assert_int_equal(mkdir(up, 0777) | mkdir(blobs, 0777), 0);
    assert_int_equal(unlink(in(copy, shard)), 0);
    assert_int_equal(rename(in(copy, "first"), in(blobs, "0123")), 0);
    assert_int_equal(rename(copy, snapshot), 0);
    assert_int_equal(symlink("../../blobs/0123", in(snapshot, shard)), 0);
    expect(ctx, "Hugging Face's cache", snapshot, LP_OK, "");
    lp_ctx_destroy(ctx);
    remove_folder(snapshot);
    remove_folder(blobs);
    remove_folder(up);
    assert_int_equal(rmdir(root), 0);
}

static void indices_that_are_wrong(void** state) {
    (void)state;
    static const struct {
        const char *text, *word;
    } rows[] = {
        {"", "index.json"},
        {"[]", "index.json"},
        {"{}", "no shard"},
        {"{\"weight_map\": {}}", "no shard"},
        {"{\"weight_map\": []}", "index.json"},
        {"{\"weight_map\": {\"lm_head.weight\": \"model-00001-of-00002.safetensors\"}",
         "index.json"},
        {"{\"weight_map\": {\"nothing\": \"model-00001-of-00002.safetensors\"}}", "is not there"},
        {"{\"weight_map\": {\"\\u0000\": \"model-00001-of-00002.safetensors\"}}", "is not there"},
        {"{\"weight_map\": {}, \"weight_map\": {}}", "index.json"},
    };
    lp_ctx* ctx = lp_ctx_create(NULL, NULL, 0);
    char folder[] = TEMPORARY;
    copy_model("llama", folder);
    expect(ctx, "as it is", folder, LP_OK, "");
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        write_text(in(folder, "model.safetensors.index.json"), rows[i].text);
        expect(ctx, rows[i].text, folder, LP_FORMAT, rows[i].word);
    }
    lp_ctx_destroy(ctx);
    remove_folder(folder);
}

/* A tensor in two shards: which one counts? */
static void a_tensor_twice(void** state) {
    (void)state;
    lp_ctx* ctx = lp_ctx_create(NULL, NULL, 0);
    char folder[] = TEMPORARY;
    size_t n;
    copy_model("llama", folder);
    char* bytes = read_whole(in(folder, "model-00001-of-00002.safetensors"), &n);
    write_whole(in(folder, "again"), bytes, n);
    lp__safetensors* f;
    assert_int_equal(lp__safetensors_open(ctx, in(folder, "again"), &f), LP_OK);
    json_t *map = json_object(), *root = json_pack("{s:o}", "weight_map", map);
    json_object_set_new(map, f->entries[0].name, json_string("again"));
    for (int shard = 1; shard <= 2; shard++) {
        char name[64];
        lp__safetensors* other;
        snprintf(name, sizeof name, "model-0000%d-of-00002.safetensors", shard);
        assert_int_equal(lp__safetensors_open(ctx, in(folder, name), &other), LP_OK);
        for (int64_t i = 0; i < other->count; i++) {
            if (strcmp(other->entries[i].name, f->entries[0].name) != 0)
                json_object_set_new(map, other->entries[i].name, json_string(name));
        }
        lp__safetensors_close(other);
    }
    lp__safetensors_close(f);
    json_dump_file(root, in(folder, "model.safetensors.index.json"), 0);
    expect(ctx, "twice", folder, LP_FORMAT, "in another file too");
    json_decref(root);
    free(bytes);
    lp_ctx_destroy(ctx);
    remove_folder(folder);
}

/* ---- files that change ----------------------------------------------------------------------- */

/* user of an lp_io whose file is cut when it is read for the n-th time */
typedef struct cutter {
    const char* path;
    int64_t left, size;
} cutter;

static int64_t cutting_pread(void* user, int fd, void* to, size_t bytes, int64_t at) {
    cutter* c = user;
    if (c->left-- == 0) assert_int_equal(truncate(c->path, c->size), 0);
    return pread(fd, to, bytes, at);
}

/* Cut, or longer, at any moment of loading: an error, and no signal. */
static void changed_while_loading(void** state) {
    (void)state;
    char folder[] = TEMPORARY, path[128];
    size_t n;
    copy_model("gpt2", folder);
    snprintf(path, sizeof path, "%s", in(folder, "model.safetensors"));
    char* bytes = read_whole(path, &n);
    const int64_t sizes[] = {0, 100, (int64_t)n / 2, (int64_t)n - 1, (int64_t)n + 1};
    for (size_t k = 0; k < sizeof sizes / sizeof *sizes; k++) {
        int done = 0;
        for (int64_t when = 0; !done; when++) {
            cutter c = {path, when, sizes[k]};
            lp_ctx_def def = lp_ctx_def_default();
            def.io = lp_io_system();
            def.io.pread = cutting_pread;
            def.io.user = &c;
            write_whole(path, bytes, n);
            lp_ctx* ctx = lp_ctx_create(&def, NULL, 0);
            const lp_status status = open_and_load(ctx, folder);
            done = c.left >= 0; /* it was not cut at all */
            if (done ? status != LP_OK : status != LP_FORMAT && c.left != -1)
                fail_msg("cut to %d at read %d: %s", (int)sizes[k], (int)when,
                         lp_status_name(status));
            if (!done && when > 20) assert_int_equal(status, LP_FORMAT);
            lp_ctx_destroy(ctx);
        }
    }
    free(bytes);
    remove_folder(folder);
}

/* Another file under the same name is no change of the one that is open. */
static void replaced_while_loading(void** state) {
    (void)state;
    lp_ctx* ctx = lp_ctx_create(NULL, NULL, 0);
    char folder[] = TEMPORARY;
    copy_model("gpt2", folder);
    lp_model* model;
    lp_weights *old, *again;
    assert_int_equal(lp_model_open(ctx, folder, &model), LP_OK);
    assert_int_equal(lp_model_load_weights(model, false, &old), LP_OK);
    write_text(in(folder, "new"), "nothing");
    assert_int_equal(rename(in(folder, "new"), in(folder, "model.safetensors")), 0);
    assert_int_equal(lp_model_load_weights(model, false, &again), LP_OK);
    lp_ctx_destroy(ctx);
    remove_folder(folder);
}

/* A save into the folder that the model was read from: its open file stays what it was, the folder
 * has the new numbers. */
static void saved_over_itself(void** state) {
    (void)state;
    static const char name[] = "transformer.ln_f.bias";
    static const char* const paths[] = {"", "/model.gguf"};
    for (int gguf = 0; gguf < 2; gguf++) {
        lp_ctx* ctx = lp_ctx_create(NULL, NULL, 0);
        char folder[] = TEMPORARY, path[64];
        copy_model("gpt2", folder);
        snprintf(path, sizeof path, "%s%s", folder, paths[gguf]);
        lp_model *first, *model, *after;
        lp_weights *w, *old, *now;
        assert_int_equal(lp_model_open(ctx, folder, &first), LP_OK);
        assert_int_equal(lp_model_load_weights(first, false, &w), LP_OK);
        if (gguf) assert_int_equal(lp_model_save_as(first, w, path, LP_FILE_F32), LP_OK);
        assert_int_equal(lp_model_open(ctx, path, &model), LP_OK);
        assert_int_equal(lp_model_load_weights(model, false, &w), LP_OK);
        float* x = lp_f32(lp_params_find(lp_weights_params(w), name));
        const float before = x[5];
        x[5] = 42;
        assert_int_equal(lp_model_save_as(model, w, path, LP_FILE_F32), LP_OK);
        assert_int_equal(lp_model_load_weights(model, false, &old), LP_OK);
        assert_close(lp_f32(lp_params_find(lp_weights_params(old), name))[5], before, 0);
        assert_int_equal(lp_model_open(ctx, path, &after), LP_OK);
        assert_int_equal(lp_model_load_weights(after, false, &now), LP_OK);
        for (int64_t i = 0; i < lp_params_count(lp_weights_params(w)); i++) {
            lp_tensor a = lp_params_get(lp_weights_params(w), i),
                      b = lp_params_get(lp_weights_params(now), i);
            assert_memory_equal(a->data, b->data, (size_t)(a->rows * a->cols) * sizeof(float));
        }
        lp_ctx_destroy(ctx);
        remove_folder(folder); /* and no temporary is in it: each of its files is known */
    }
}

/* ---- other kinds of files -------------------------------------------------------------------- */

static void other_kinds_of_files(void** state) {
    (void)state;
    static const struct {
        const char* name;
        size_t bytes;
        char head[32];
        const char* word;
    } rows[] = {
        {"model.pt", 30, "PK\3\4\24\0\0\0\0\0archive/data.pkl", "pickle"},
        {"pytorch_model.bin", 30, "PK\3\4\24\0\0\0\0\0archive/data.pkl", "pickle"},
        {"empty.zip", 22, "PK\5\6", "pickle"},
        {"old.pt", 20,
         "\x80\x02\x8a\nl\xfc\x9c"
         "F\xf9 j\xa8P\x19.",
         "pickle"},
        {"p4.pkl", 16, "\x80\x04\x95\x0c\0\0\0\0\0\0\0", "pickle"},
        {"model.h5", 16, "\x89HDF\r\n\x1a\n", "HDF5"},
        {"x.npy", 16, "\x93NUMPY\1\0v\0{", "NumPy"},
        {"model.safetensors", 16, "\x08\0\0\0\0\0\0\0{\"a\":1} ", "folder"},
    };
    lp_ctx* ctx = lp_ctx_create(NULL, NULL, 0);
    char folder[] = TEMPORARY;
    assert_non_null(mkdtemp(folder));
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        char bytes[64] = {0};
        memcpy(bytes, rows[i].head, rows[i].bytes);
        write_whole(in(folder, rows[i].name), bytes, rows[i].bytes);
        expect(ctx, rows[i].name, in(folder, rows[i].name), LP_UNSUPPORTED, rows[i].word);
    }
    assert_int_equal(unlink(in(folder, "pytorch_model.bin")), 0);
    assert_int_equal(unlink(in(folder, "model.safetensors")), 0);
    expect(ctx, "no config.json", folder, LP_FORMAT, "config.json");
    size_t n;
    char* config = read_whole(in(model_path("gpt2"), "config.json"), &n);
    write_whole(in(folder, "config.json"), config, n);
    expect(ctx, "no weights", folder, LP_FORMAT, "model.safetensors");
    static const char* const pickles[] = {"pytorch_model.bin", "pytorch_model.bin.index.json",
                                          "tf_model.h5", "flax_model.msgpack"};
    for (size_t i = 0; i < sizeof pickles / sizeof *pickles; i++) {
        write_text(in(folder, pickles[i]), "x");
        expect(ctx, pickles[i], folder, LP_UNSUPPORTED, "convert it");
        assert_int_equal(unlink(in(folder, pickles[i])), 0);
    }
    expect(ctx, "no such thing", in(folder, "nothing"), LP_NOT_FOUND, "nothing");
    free(config);
    lp_ctx_destroy(ctx);
    remove_folder(folder);
}

/* ---- settings -------------------------------------------------------------------------------- */

static void settings(void** state) {
    (void)state;
    static const struct {
        const char *model, *key, *value;
        lp_status status;
    } rows[] = {
        {"llama", "model_type", "\"mamba\"", LP_UNSUPPORTED},
        {"llama", "model_type", NULL, LP_FORMAT},
        {"llama", "model_type", "7", LP_FORMAT},
        {"llama", "model_type", "\"mistral\"", LP_OK},
        {"llama", "hidden_act", "\"gelu\"", LP_UNSUPPORTED},
        {"llama", "hidden_act", "\"swish\"", LP_OK},
        {"llama", "sliding_window", "64", LP_UNSUPPORTED},
        {"llama", "sliding_window", "256", LP_OK}, /* the whole context */
        {"llama", "sliding_window", "null", LP_OK},
        {"llama", "layer_types", "[\"full_attention\", \"sliding_attention\"]", LP_UNSUPPORTED},
        {"llama", "layer_types", "[\"full_attention\", \"full_attention\"]", LP_OK},
        {"llama", "quantization_config", "{\"bits\": 4}", LP_UNSUPPORTED},
        {"llama", "partial_rotary_factor", "0.5", LP_UNSUPPORTED},
        {"llama", "rope_parameters", "{\"rope_type\": \"yarn\", \"factor\": 4.0}", LP_UNSUPPORTED},
        {"llama", "rope_parameters", "{\"rope_type\": \"dynamic\", \"factor\": 4.0}",
         LP_UNSUPPORTED},
        {"llama", "rope_parameters", "{\"rope_type\": \"longrope\"}", LP_UNSUPPORTED},
        {"llama", "rope_parameters", "{\"rope_type\": 3}", LP_FORMAT},
        {"llama", "rope_parameters", "{\"rope_type\": \"linear\", \"factor\": 0}", LP_FORMAT},
        {"llama", "rope_parameters", "{\"rope_type\": \"linear\", \"factor\": \"2\"}", LP_FORMAT},
        {"llama", "rope_parameters", "{\"rope_type\": \"linear\", \"factor\": 2}", LP_OK},
        {"llama", "rope_parameters",
         "{\"rope_type\": \"llama3\", \"factor\": 2, \"low_freq_factor\": 4}", LP_FORMAT},
        {"llama", "rope_parameters", "[]", LP_FORMAT},
        {"llama", "rope_scaling", "{\"type\": \"ntk\", \"factor\": 2}", LP_UNSUPPORTED},
        {"llama", "rope_theta", "\"10000\"", LP_FORMAT},
        {"llama", "hidden_size", "0", LP_FORMAT},
        {"llama", "hidden_size", "-16", LP_FORMAT},
        {"llama", "hidden_size", "16.0", LP_FORMAT},
        {"llama", "hidden_size", "\"16\"", LP_FORMAT},
        {"llama", "hidden_size", "16777217", LP_FORMAT},
        {"llama", "hidden_size", NULL, LP_FORMAT},
        {"llama", "hidden_size", "32", LP_FORMAT}, /* the tensors say otherwise */
        {"llama", "vocab_size", NULL, LP_FORMAT},
        {"llama", "vocab_size", "511", LP_FORMAT},
        {"llama", "num_hidden_layers", "3", LP_FORMAT},
        {"llama", "num_hidden_layers", "1", LP_UNSUPPORTED}, /* tensors are left over */
        {"llama", "num_key_value_heads", "3", LP_FORMAT},
        {"llama", "head_dim", "7", LP_FORMAT},
        {"llama", "head_dim", "null", LP_FORMAT},
        {"llama", "intermediate_size", NULL, LP_FORMAT},
        {"llama", "rms_norm_eps", "0", LP_FORMAT},
        {"llama", "rms_norm_eps", "true", LP_FORMAT},
        {"llama", "attention_bias", "false", LP_UNSUPPORTED},
        {"llama", "attention_bias", "1", LP_FORMAT},
        {"llama", "mlp_bias", "false", LP_UNSUPPORTED},
        {"llama", "tie_word_embeddings", "true", LP_UNSUPPORTED}, /* the two differ */
        {"qwen2", "use_sliding_window", "true", LP_UNSUPPORTED},
        {"qwen2", "sliding_window", "64", LP_OK}, /* it is not used */
        {"qwen2", "tie_word_embeddings", "false", LP_FORMAT},
        {"gpt2", "activation_function", "\"relu\"", LP_UNSUPPORTED},
        {"gpt2", "activation_function", "\"gelu\"", LP_UNSUPPORTED},
        {"gpt2", "activation_function", "\"gelu_pytorch_tanh\"", LP_OK},
        {"gpt2", "scale_attn_weights", "false", LP_UNSUPPORTED},
        {"gpt2", "scale_attn_by_inverse_layer_idx", "true", LP_UNSUPPORTED},
        {"gpt2", "add_cross_attention", "true", LP_UNSUPPORTED},
        {"gpt2", "n_inner", "64", LP_OK}, /* what null means */
        {"gpt2", "n_inner", "60", LP_FORMAT},
        {"gpt2", "n_positions", "127", LP_FORMAT},
    };
    lp_ctx* ctx = lp_ctx_create(NULL, NULL, 0);
    expect(ctx, "as it is", model_path("llama"), LP_OK, "");
    const size_t held = lp_ctx_memory(ctx).bytes; /* scratch stays */
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        char folder[] = TEMPORARY, what[200];
        copy_model(rows[i].model, folder);
        edit_json(folder, "config.json", rows[i].key, rows[i].value);
        snprintf(what, sizeof what, "%s: %s = %s", rows[i].model, rows[i].key, rows[i].value);
        const bool by_key = rows[i].status == LP_UNSUPPORTED && rows[i].value &&
                            !strstr("num_hidden_layers attention_bias mlp_bias "
                                    "tie_word_embeddings",
                                    rows[i].key);
        expect(ctx, what, folder, rows[i].status, by_key ? rows[i].key : folder);
        remove_folder(folder);
    }
    assert_int_equal(lp_ctx_memory(ctx).bytes, held);
    lp_ctx_destroy(ctx);
}

static void json_that_is_none(void** state) {
    (void)state;
    static const char* const files[] = {"config.json", "generation_config.json"};
    static const char* const texts[] = {
        "", "{", "[]", "7", "{\"eos_token_id\": 512}", "{\"a\": 1, \"a\": 2}", "\xff"};
    lp_ctx* ctx = lp_ctx_create(NULL, NULL, 0);
    char folder[] = TEMPORARY;
    copy_model("gpt2", folder);
    for (int k = 0; k < 2; k++) {
        size_t n;
        char* old = read_whole(in(folder, files[k]), &n);
        for (size_t i = 0; i < sizeof texts / sizeof *texts; i++) {
            write_text(in(folder, files[k]), texts[i]);
            expect(ctx, texts[i], folder, LP_FORMAT, files[k]);
        }
        write_whole(in(folder, files[k]), old, n);
        free(old);
    }
    expect(ctx, "as it was", folder, LP_OK, "");
    lp_ctx_destroy(ctx);
    remove_folder(folder);
}

/* ---- want of memory, a disk that fails ------------------------------------------------------- */

/* Counts down allocations and reads; the one at 0, and all later ones, fail. */
typedef struct faults {
    int64_t allocations, reads;
} faults;

static void* failing_alloc(void* user, void* old, size_t old_bytes, size_t new_bytes) {
    (void)old_bytes;
    faults* f = user;
    if (new_bytes == 0) {
        free(old);
        return NULL;
    }
    return f->allocations-- > 0 ? realloc(old, new_bytes) : NULL;
}

static int64_t failing_pread(void* user, int fd, void* to, size_t bytes, int64_t at) {
    faults* f = user;
    return f->reads-- > 0 ? pread(fd, to, bytes, at) : -EIO;
}

static lp_status read_and_write(lp_ctx* ctx, const char* from, const char* to, bool gguf) {
    lp_model* model;
    lp_weights* weights = NULL;
    lp_status status = lp_model_open(ctx, from, &model);
    if (status == LP_OK) status = lp_model_load_weights(model, true, &weights);
    if (status == LP_OK)
        status = lp_model_save_as(model, weights, gguf ? in(to, "x.gguf") : to, LP_FILE_BF16);
    lp_weights_destroy(weights);
    lp_model_close(model);
    return status;
}

static void every_failure(void** state) {
    (void)state;
    for (int way = 0; way < 4; way++) {
        const bool memory = way % 2, gguf = way / 2;
        char out[] = TEMPORARY, from[4200];
        snprintf(from, sizeof from, "%s", model_path(gguf ? "llama" : "gpt2"));
        assert_non_null(mkdtemp(out));
        faults f = {INT64_MAX, INT64_MAX};
        lp_ctx_def def = lp_ctx_def_default();
        def.threads = 1;
        def.alloc = failing_alloc;
        def.alloc_user = &f;
        def.io = lp_io_system();
        def.io.pread = failing_pread;
        def.io.user = &f;
        lp_status status = LP_IO;
        int64_t allowed = 0;
        for (; status != LP_OK; allowed += 1 + allowed / 40) {
            f = (faults){INT64_MAX, INT64_MAX};
            lp_ctx* ctx = lp_ctx_create(&def, NULL, 0);
            const size_t held = lp_ctx_memory(ctx).bytes;
            f = memory ? (faults){allowed, INT64_MAX} : (faults){INT64_MAX, allowed};
            status = read_and_write(ctx, from, out, gguf);
            if (status != LP_OK && status != (memory ? LP_NOMEM : LP_IO))
                fail_msg("fault %d: %s: %s", (int)allowed, lp_status_name(status), lp_error(ctx));
            if (!memory) assert_true(lp_ctx_memory(ctx).bytes <= held + (8 << 20)); /* scratch */
            lp_ctx_destroy(ctx);
        }
        assert_true(allowed > (memory ? 100 : 10));
        remove_folder(out);
    }
}

/* ---- tensors that may be there, or not ------------------------------------------------------- */

typedef struct rewrite {
    lp__safetensors* from;
    const char* extra; /* its numbers are those of wte, the first one plus change */
    float change;
} rewrite;

static lp_status put_tensor(void* user, const lp__safetensors_out* out, lp__writer* writer) {
    const rewrite* r = user;
    const bool extra = r->extra && strcmp(out->name, r->extra) == 0;
    const lp__safetensors_entry* e = extra ? lp__safetensors_find(r->from, "transformer.wte.weight")
                                           : &r->from->entries[out->index];
    const size_t bytes = (size_t)(out->rows * out->cols) * sizeof(float);
    float* x = malloc(bytes);
    assert_int_equal(lp__file_read(r->from->ctx, r->from->fd, r->from->path, x, bytes, e->begin),
                     LP_OK);
    if (extra) x[0] += r->change;
    const lp_status status = lp__writer_write(writer, x, bytes);
    free(x);
    return status;
}

/* gpt2's tensors once more, without the prefix if bare, and with one more of so many numbers. */
static void rewrite_gpt2(lp_ctx* ctx, const char* folder, bool bare, const char* extra,
                         int64_t rows, float change) {
    rewrite r = {.extra = extra, .change = change};
    lp__safetensors_out out[64];
    assert_int_equal(
        lp__safetensors_open(ctx, in(model_path("gpt2"), "model.safetensors"), &r.from), LP_OK);
    int64_t n = 0;
    for (; n < r.from->count; n++) {
        const lp__safetensors_entry* e = &r.from->entries[n];
        out[n] = (lp__safetensors_out){e->name + (bare ? strlen("transformer.") : 0),
                                       LP__SAFETENSORS_F32,
                                       e->dims,
                                       e->rows,
                                       e->cols,
                                       n};
    }
    if (extra) out[n] = (lp__safetensors_out){extra, LP__SAFETENSORS_F32, 2, rows, 16, n};
    assert_int_equal(lp__safetensors_write(ctx, in(folder, "model.safetensors"), out,
                                           n + (extra != NULL), NULL, put_tensor, &r),
                     LP_OK);
    lp__safetensors_close(r.from);
}

static void names_and_leftovers(void** state) {
    (void)state;
    static const struct {
        bool bare;
        const char* extra;
        int64_t rows;
        float change;
        lp_status status;
        const char* word;
    } rows[] = {
        {false, NULL, 0, 0, LP_OK, ""},
        {true, NULL, 0, 0, LP_OK, ""},
        {true, "h.1.attn.bias", 16, 0, LP_OK, ""},
        {false, "transformer.h.0.attn.masked_bias", 1, 0, LP_OK, ""},
        {false, "lm_head.weight", 512, 0, LP_OK, ""},
        {false, "lm_head.weight", 512, 1, LP_UNSUPPORTED, "tie_word_embeddings"},
        {false, "lm_head.weight", 511, 0, LP_FORMAT, "[511, 16]"},
        {false, "score.weight", 2, 0, LP_UNSUPPORTED, "score.weight"},
    };
    lp_ctx* ctx = lp_ctx_create(NULL, NULL, 0);
    char folder[] = TEMPORARY;
    copy_model("gpt2", folder);
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        rewrite_gpt2(ctx, folder, rows[i].bare, rows[i].extra, rows[i].rows, rows[i].change);
        expect(ctx, rows[i].extra ? rows[i].extra : "as it is", folder, rows[i].status,
               rows[i].word);
    }
    lp_ctx_destroy(ctx);
    remove_folder(folder);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(shards_stay_in_the_folder),
        cmocka_unit_test(links_that_are_allowed),
        cmocka_unit_test(indices_that_are_wrong),
        cmocka_unit_test(a_tensor_twice),
        cmocka_unit_test(changed_while_loading),
        cmocka_unit_test(replaced_while_loading),
        cmocka_unit_test(saved_over_itself),
        cmocka_unit_test(other_kinds_of_files),
        cmocka_unit_test(settings),
        cmocka_unit_test(json_that_is_none),
        cmocka_unit_test(every_failure),
        cmocka_unit_test(names_and_leftovers),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
