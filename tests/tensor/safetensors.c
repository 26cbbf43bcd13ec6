/* What lp_params_save writes, read back byte by byte: an 8-byte length, a JSON header padded to 8
 * bytes, then the numbers, with no gap and in the order of names. And what it must not leave behind
 * when it fails. */
#include "json.h"

#include <errno.h>
#include <logpi/tensor.h>
#include <unistd.h>

/* A set whose names are not in order; the second use of a tied weight is not a tensor of the file.
 */
typedef struct rig {
    lp_ctx* ctx;
    lp_params* params;
    char folder[64], path[128];
} rig;

static rig set_up(lp_dtype type, const lp_io* io) {
    rig r = {.folder = "/tmp/logpi-test-XXXXXX"};
    lp_ctx_def def = lp_ctx_def_default();
    if (io) def.io = *io;
    r.ctx = lp_ctx_create(&def, NULL, 0);
    r.params = lp_params_create(r.ctx, type, true);
    lp_rng rng = lp_rng_philox(2, LP_FOR_TEST, 0, 0);
    lp_tensor embedding = lp_param_randn(r.params, "z.embedding", 5, 3, &rng);
    lp_param_randn(r.params, "a.norm.weight", 1, 7, &rng);
    lp_param_randn(r.params, "m.one_row", 1, 4, &rng);
    lp_param_randn(r.params, "a.bias", 1, 1, &rng);
    lp_param_tied(r.params, "head", embedding);
    assert_non_null(mkdtemp(r.folder));
    snprintf(r.path, sizeof r.path, "%s/x.safetensors", r.folder);
    return r;
}

static void tear_down(rig* r) {
    remove(r->path);
    assert_int_equal(rmdir(r->folder), 0); /* and so nothing else was left in it */
    lp_ctx_destroy(r->ctx);
}

/* A file as its three parts. */
typedef struct parts {
    char* bytes;
    int64_t header_bytes, data_bytes;
    json_t* header;
    const char* data;
} parts;

static parts read_parts(const char* path) {
    parts p = {0};
    FILE* f = fopen(path, "rb");
    assert_non_null(f);
    fseek(f, 0, SEEK_END);
    const int64_t size = ftell(f);
    rewind(f);
    p.bytes = malloc((size_t)size);
    assert_int_equal(fread(p.bytes, 1, (size_t)size, f), size);
    fclose(f);
    for (int i = 7; i >= 0; i--) p.header_bytes = p.header_bytes << 8 | (uint8_t)p.bytes[i];
    assert_true(p.header_bytes > 0 && p.header_bytes <= size - 8);
    p.header = json_loadb(p.bytes + 8, (size_t)p.header_bytes, 0, NULL);
    assert_non_null(p.header);
    p.data = p.bytes + 8 + p.header_bytes;
    p.data_bytes = size - 8 - p.header_bytes;
    return p;
}

static void free_parts(parts* p) {
    json_decref(p->header);
    free(p->bytes);
}

static int64_t at(json_t* list, size_t i) { return json_integer_value(json_array_get(list, i)); }

/* jansson keeps the order of the file. Every tensor: type, shape, offsets that follow one another,
 * names that rise, and the bits of its numbers. Returns how many there are. */
static int check_tensors(const rig* r, const parts* p, const char* const* own_names,
                         const char* type, size_t element) {
    const char *name, *previous = "";
    json_t* entry;
    int64_t end = 0;
    int count = 0;
    json_object_foreach(p->header, name, entry) {
        if (strcmp(name, "__metadata__") == 0) continue;
        assert_true(strcmp(previous, name) < 0);
        previous = name;
        lp_tensor x = lp_params_find(r->params, own_names ? own_names[count] : name);
        assert_non_null(x);
        assert_string_equal(json_string_value(json_at(entry, "dtype")), type);
        json_t *shape = json_at(entry, "shape"), *range = json_at(entry, "data_offsets");
        int64_t numbers = 1;
        for (size_t i = 0; i < json_array_size(shape); i++) numbers *= at(shape, i);
        assert_int_equal(numbers, x->rows * x->cols);
        assert_int_equal(at(range, 0), end);
        end = at(range, 1);
        assert_int_equal(end - at(range, 0), numbers * (int64_t)element);
        assert_memory_equal(p->data + at(range, 0), x->data, (size_t)numbers * element);
        count++;
    }
    assert_int_equal(end, p->data_bytes);
    return count;
}

static void reads_back(void** state) {
    (void)state;
    for (int type = LP_F32; type <= LP_F64; type++) {
        rig r = set_up((lp_dtype)type, NULL);
        assert_int_equal(lp_params_save(r.params, r.path, NULL, NULL), LP_OK);
        parts p = read_parts(r.path);
        assert_int_equal(p.header_bytes % 8, 0);
        const bool f64 = type == LP_F64;
        assert_int_equal(check_tensors(&r, &p, NULL, f64 ? "F64" : "F32", f64 ? 8 : 4), 4);
        assert_null(json_object_get(p.header, "head"));
        assert_null(json_object_get(p.header, "__metadata__"));
        /* norm weights and biases are vectors, any other row is a matrix of one row */
        assert_int_equal(json_array_size(json_at(json_at(p.header, "a.norm.weight"), "shape")), 1);
        assert_int_equal(json_array_size(json_at(json_at(p.header, "a.bias"), "shape")), 1);
        assert_int_equal(json_array_size(json_at(json_at(p.header, "m.one_row"), "shape")), 2);
        assert_int_equal(at(json_at(json_at(p.header, "z.embedding"), "shape"), 1), 3);
        free_parts(&p);
        tear_down(&r);
    }
}

/* Names of the caller's, one left out, quotes and letters that JSON must escape or keep; metadata
 * of every length, so that the padding takes every value. */
static void names_and_metadata(void** state) {
    (void)state;
    rig r = set_up(LP_F32, NULL);
    const char* const names[] = {"say \"z\"\\", NULL, "\xc3\xa9t\xc3\xa9",
                                 "B"}; /* of z, a.norm, m, a.bias */
    const char* const own[] = {"a.bias", "z.embedding", "m.one_row"};
    char text[9] = "";
    for (int i = 0; i < 8; i++) {
        text[i] = 'x';
        const char* const metadata[] = {"format", "pt", "note", text, NULL};
        assert_int_equal(lp_params_save(r.params, r.path, names, metadata), LP_OK);
        parts p = read_parts(r.path);
        assert_int_equal(p.header_bytes % 8, 0);
        assert_int_equal(check_tensors(&r, &p, own, "F32", 4), 3);
        json_t* meta = json_at(p.header, "__metadata__");
        assert_string_equal(json_string_value(json_at(meta, "format")), "pt");
        assert_string_equal(json_string_value(json_at(meta, "note")), text);
        free_parts(&p);
    }
    tear_down(&r);
}

/* user: how many bytes the disk still has room for. */
static int64_t full_disk_write(void* user, int fd, const void* buffer, size_t bytes) {
    int64_t* left = user;
    if (*left <= 0) return -ENOSPC;
    const ssize_t done = write(fd, buffer, (int64_t)bytes < *left ? bytes : (size_t)*left);
    *left -= done;
    return done;
}

/* A disk that is full after any number of bytes: LP_IO, the file that stood there stays as it was,
 * and no temporary is left. */
static void disk_full(void** state) {
    (void)state;
    lp_io io = lp_io_system();
    int64_t left = INT64_MAX;
    io.write = full_disk_write;
    io.user = &left;
    rig r = set_up(LP_F32, &io);
    assert_int_equal(lp_params_save(r.params, r.path, NULL, NULL), LP_OK);
    parts before = read_parts(r.path);
    const int64_t size = 8 + before.header_bytes + before.data_bytes;
    lp_f32(lp_params_find(r.params, "a.bias"))[0] = 42;
    for (int64_t room = 0; room < size; room += 13) {
        left = room;
        assert_int_equal(lp_params_save(r.params, r.path, NULL, NULL), LP_IO);
        assert_non_null(strstr(lp_error(r.ctx), "x.safetensors"));
        parts after = read_parts(r.path);
        assert_int_equal(8 + after.header_bytes + after.data_bytes, size);
        assert_memory_equal(after.bytes, before.bytes, (size_t)size);
        free_parts(&after);
    }
    left = size;
    assert_int_equal(lp_params_save(r.params, r.path, NULL, NULL), LP_OK);
    parts after = read_parts(r.path);
    assert_int_equal(check_tensors(&r, &after, NULL, "F32", 4), 4);
    free_parts(&after);
    free_parts(&before);
    tear_down(&r);
}

static void no_such_folder(void** state) {
    (void)state;
    rig r = set_up(LP_F32, NULL);
    char path[256];
    snprintf(path, sizeof path, "%s/missing/x.safetensors", r.folder);
    const lp_status status = lp_params_save(r.params, path, NULL, NULL);
    assert_true(status == LP_NOT_FOUND || status == LP_IO);
    assert_non_null(strstr(lp_error(r.ctx), path));
    tear_down(&r);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(reads_back),
        cmocka_unit_test(names_and_metadata),
        cmocka_unit_test(disk_full),
        cmocka_unit_test(no_such_folder),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
