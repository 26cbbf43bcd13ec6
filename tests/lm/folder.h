/* Folders of models for tests: the fixtures that tests/oracles/hf_models.py made, and copies of
 * them that a test may spoil. */
#ifndef TESTS_LM_FOLDER_H
#define TESTS_LM_FOLDER_H

#include "testing.h"

#include <dirent.h>
#include <jansson.h>
#include <logpi/lm.h>
#include <sys/stat.h>
#include <unistd.h>

/* tests/fixtures/models/NAME; valid until the next call */
static inline const char* model_path(const char* name) {
    char path[256];
    snprintf(path, sizeof path, "models/%s", name);
    return fixture_path(path);
}

/* FOLDER/NAME; valid until the second next call */
static inline const char* in(const char* folder, const char* name) {
    static char paths[2][8192];
    static int turn;
    turn = !turn;
    snprintf(paths[turn], sizeof paths[turn], "%s/%s", folder, name);
    return paths[turn];
}

static inline char* read_whole(const char* path, size_t* n) {
    FILE* f = fopen(path, "rb");
    if (!f) fail_msg("cannot read %s", path);
    fseek(f, 0, SEEK_END);
    *n = (size_t)ftell(f);
    rewind(f);
    char* bytes = malloc(*n + 1);
    assert_int_equal(fread(bytes, 1, *n, f), *n);
    bytes[*n] = 0;
    fclose(f);
    return bytes;
}

static inline void write_whole(const char* path, const void* bytes, size_t n) {
    FILE* f = fopen(path, "wb");
    if (!f) fail_msg("cannot write %s", path);
    assert_int_equal(fwrite(bytes, 1, n, f), n);
    assert_int_equal(fclose(f), 0);
}

static inline void write_text(const char* path, const char* text) {
    write_whole(path, text, strlen(text));
}

static inline void remove_folder(const char* folder) {
    DIR* dir = opendir(folder);
    assert_non_null(dir);
    for (struct dirent* e; (e = readdir(dir));) {
        if (strcmp(e->d_name, ".") == 0 || strcmp(e->d_name, "..") == 0) continue;
        struct stat info;
        const char* path = in(folder, e->d_name);
        assert_int_equal(lstat(path, &info), 0);
        assert_int_equal(S_ISDIR(info.st_mode) ? rmdir(path) : unlink(path), 0);
    }
    closedir(dir);
    assert_int_equal(rmdir(folder), 0);
}

/* A copy of a fixture without its reference; its path is in to, "/tmp/logpi-test-XXXXXX". */
static inline void copy_model(const char* name, char* to) {
    char from[4200];
    snprintf(from, sizeof from, "%s", model_path(name));
    assert_non_null(mkdtemp(to));
    DIR* dir = opendir(from);
    if (!dir) fail_msg("no fixture %s", from);
    for (struct dirent* e; (e = readdir(dir));) {
        if (e->d_name[0] == '.' || strcmp(e->d_name, "hf_reference.safetensors") == 0) continue;
        size_t n;
        char* bytes = read_whole(in(from, e->d_name), &n);
        write_whole(in(to, e->d_name), bytes, n);
        free(bytes);
    }
    closedir(dir);
}

/* Puts a value, given as JSON, into a JSON file of the folder; NULL removes the key. */
static inline void edit_json(const char* folder, const char* file, const char* key,
                             const char* value) {
    json_t* root = json_load_file(in(folder, file), 0, NULL);
    assert_non_null(root);
    if (value) {
        json_t* parsed = json_loads(value, JSON_DECODE_ANY, NULL);
        if (!parsed) fail_msg("no JSON: %s", value);
        json_object_set_new(root, key, parsed);
    } else {
        json_object_del(root, key);
    }
    assert_int_equal(json_dump_file(root, in(folder, file), 0), 0);
    json_decref(root);
}

#define TEMPORARY "/tmp/logpi-test-XXXXXX"

#endif
