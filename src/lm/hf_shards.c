/* The safetensors files of a folder: one, or shards that an index names. */
#include "lm/source.h"
#include "text/json.h"
#include <stdlib.h>
#include <string.h>

enum { INDEX_LIMIT = 64 << 20, SHARDS_LIMIT = 4096, SHARD_NAME_LIMIT = 255 };

static const char ONE_FILE[] = "model.safetensors", INDEX[] = "model.safetensors.index.json";

/* ---- shard names are from a stranger: they stay in the folder -------------------------------- */

/* Whether path is below folder, both resolved. */
static bool below(const char* path, const char* folder) {
    char* real = realpath(folder, NULL);
    const size_t n = real ? strlen(real) : 0;
    const bool yes = real && strncmp(path, real, n) == 0 && path[n] == '/';
    free(real);
    return yes;
}

/* A link may lead to another place of the folder, or to the blobs of Hugging Face's cache, which
 * lays models out as MODEL/snapshots/REVISION and MODEL/blobs. What cannot be resolved is left to
 * open. */
static bool stays_inside(lp_ctx* ctx, const char* path, const char* folder) {
    char* real = realpath(path, NULL);
    if (!real) return true;
    bool inside = below(real, folder);
    char* blobs = lp__path(ctx, folder, "../../blobs");
    inside = inside || (blobs && below(real, blobs));
    lp__free(ctx, blobs);
    free(real);
    return inside;
}

static lp_status check_name(const lp__source* s, lp__string name) {
    const bool plain = name.bytes > 0 && name.bytes <= SHARD_NAME_LIMIT &&
                       !memchr(name.data, '/', name.bytes) &&
                       !memchr(name.data, '\0', name.bytes) && name.data[0] != '.';
    if (plain) return LP_OK;
    return lp_fail(s->ctx, LP_FORMAT,
                   "%s/%s: refused: a shard named \"%.*s\"; shards are files of the same folder",
                   s->path, INDEX, (int)LP__MIN(name.bytes, (size_t)80), name.data);
}

static lp_status open_shard(lp__source* s, const char* name) {
    lp__safetensors** grown =
        lp__realloc(s->ctx, s->shards, (size_t)(s->shard_count + 1) * sizeof *s->shards);
    if (!grown) return LP_NOMEM;
    s->shards = grown;
    char* path = lp__path(s->ctx, s->path, name);
    if (!path) return LP_NOMEM;
    lp_status status = lp__safetensors_open(s->ctx, path, &s->shards[s->shard_count]);
    if (status == LP_OK) s->shard_count++;
    lp__free(s->ctx, path);
    return status;
}

/* The shard of that name, opened if it was not yet. */
static lp_status find_shard(lp__source* s, lp__string name, int64_t* index) {
    const size_t folder = strlen(s->path) + 1;
    for (*index = 0; *index < s->shard_count; ++*index) {
        if (lp__string_equal(lp__string_of(s->shards[*index]->path + folder), name)) return LP_OK;
    }
    lp_status status = check_name(s, name);
    if (status != LP_OK) return status;
    if (s->shard_count == SHARDS_LIMIT)
        return lp_fail(s->ctx, LP_FORMAT, "%s/%s: more than %d shards", s->path, INDEX,
                       SHARDS_LIMIT);
    char* copy = lp__strdup(s->ctx, name.data, name.bytes);
    char* path = copy ? lp__path(s->ctx, s->path, copy) : NULL;
    status = path ? LP_OK : LP_NOMEM;
    if (path && !stays_inside(s->ctx, path, s->path))
        status = lp_fail(s->ctx, LP_FORMAT, "%s: refused: this link leads out of the folder", path);
    if (status == LP_OK) status = open_shard(s, copy);
    if (status == LP_NOT_FOUND)
        status =
            lp_fail(s->ctx, LP_FORMAT, "%s: this shard is missing; fetch the model again", path);
    lp__free(s->ctx, path);
    lp__free(s->ctx, copy);
    return status;
}

/* ---- the index ------------------------------------------------------------------------------- */

/* {"tensor": "shard", ...}: each must be where it says. */
static lp_status read_map(lp__source* s, lp__json* j) {
    lp__string key, name;
    char tensor[1100];
    int64_t last = -1, index;
    lp__json_begin(j, LP__JSON_OBJECT);
    while (lp__json_member(j, &key)) {
        if (lp__json_string(j, &name) != LP_OK) break;
        const size_t folder = strlen(s->path) + 1;
        lp_status status = LP_OK;
        index = last; /* most are in the shard of the one before */
        if (last < 0 || !lp__string_equal(lp__string_of(s->shards[last]->path + folder), name))
            status = find_shard(s, name, &index);
        if (status != LP_OK) return status;
        last = index;
        bool found = key.bytes < sizeof tensor && !memchr(key.data, '\0', key.bytes);
        if (found) {
            memcpy(tensor, key.data, key.bytes);
            tensor[key.bytes] = '\0';
            found = lp__safetensors_find(s->shards[index], tensor) != NULL;
        }
        if (!found)
            return lp_fail(s->ctx, LP_FORMAT, "%s: tensor \"%.*s\" is not there, but %s says so",
                           s->shards[index]->path, (int)LP__MIN(key.bytes, (size_t)200), key.data,
                           INDEX);
    }
    return j->status;
}

static lp_status read_index(lp__source* s, lp__json* j) {
    static const char* const keys[] = {"weight_map"};
    uint32_t seen = 0;
    lp__string key;
    lp__json_begin(j, LP__JSON_OBJECT);
    while (lp__json_member(j, &key)) {
        if (lp__json_key(j, key, keys, 1, &seen) == 0) {
            const lp_status status = read_map(s, j);
            if (status != LP_OK) return status;
        } else {
            (void)lp__json_skip(j);
        }
    }
    if (lp__json_finish(j) != LP_OK) return j->status;
    return s->shard_count > 0 ? LP_OK
                              : lp_fail(s->ctx, LP_FORMAT, "%s/%s names no shard", s->path, INDEX);
}

static lp_status open_index(lp__source* s) {
    char *path = lp__path(s->ctx, s->path, INDEX), *text = NULL;
    size_t bytes = 0;
    lp_status status = path ? lp__file_slurp(s->ctx, path, INDEX_LIMIT, &text, &bytes) : LP_NOMEM;
    if (status == LP_OK) {
        lp__json json;
        status = lp__json_open(s->ctx, &json, (lp__string){text, bytes});
        if (status == LP_OK) {
            status = read_index(s, &json);
            if (status != LP_OK && json.status == status)
                (void)lp__fail_at(s->ctx, status, "%s", path);
            lp__json_close(&json);
        } else {
            (void)lp__fail_at(s->ctx, status, "%s", path);
        }
    }
    lp__free(s->ctx, text);
    lp__free(s->ctx, path);
    return status;
}

/* ---- the whole ------------------------------------------------------------------------------- */

static bool is_there(const lp__source* s, const char* name) {
    char* path = lp__path(s->ctx, s->path, name);
    int fd;
    uint64_t size;
    const bool yes = path && lp__file_open(s->ctx, path, &fd, &size) == LP_OK;
    if (yes) lp__file_close(s->ctx, fd);
    lp__free(s->ctx, path);
    return yes;
}

/* No safetensors: say what there is instead. */
static lp_status nothing(const lp__source* s) {
    static const char* const pickles[] = {"pytorch_model.bin", "pytorch_model.bin.index.json",
                                          "consolidated.00.pth", "tf_model.h5",
                                          "flax_model.msgpack"};
    for (size_t i = 0; i < sizeof pickles / sizeof *pickles; i++) {
        if (is_there(s, pickles[i]))
            return lp_fail(s->ctx, LP_UNSUPPORTED,
                           "%s/%s: refused: a pickle (or its like) can run code; convert it to "
                           "safetensors with transformers: model.save_pretrained(FOLDER)",
                           s->path, pickles[i]);
    }
    return lp_fail(s->ctx, LP_FORMAT, "%s: there is no %s in this folder, nor %s", s->path,
                   ONE_FILE, INDEX);
}

lp_status lp__source_open_shards(lp__source* s) {
    lp_status status = open_shard(s, ONE_FILE);
    if (status == LP_NOT_FOUND) status = open_index(s);
    return status == LP_NOT_FOUND ? nothing(s) : status;
}
