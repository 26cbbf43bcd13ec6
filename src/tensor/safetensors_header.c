/* The JSON header of a safetensors file, read in one pass over its own text: names are views into
 * it, so memory does not grow beyond the text and an entry a tensor, and nothing nests. */
#include "tensor/safetensors.h"
#include <stdlib.h>

enum { TENSORS_LIMIT = 65536, NAME_LIMIT = 1024, DIMS_LIMIT = 8 };

typedef struct scan {
    lp__safetensors* file;
    char *at, *end; /* at < end, or the text is over */
    const char* text;
    size_t room; /* for so many entries */
    lp_status status;
} scan;

static const struct {
    const char* name;
    int bits;
} dtypes[] = {
#define ROW(name, bits) {#name, bits},
    LP__SAFETENSORS_DTYPE_MAP(ROW)
#undef ROW
};

const char* lp__safetensors_dtype_name(lp__safetensors_dtype dtype) { return dtypes[dtype].name; }

static bool fail(scan* s, const char* what) {
    if (s->status == LP_OK)
        s->status = lp_fail(s->file->ctx, LP_FORMAT,
                            "%s: header, byte %lld: %s: this is no whole safetensors file",
                            s->file->path, (long long)(s->at - s->text), what);
    return false;
}

/* ---- JSON ------------------------------------------------------------------------------------ */

static char peek(scan* s) {
    while (s->at < s->end && (*s->at == ' ' || *s->at == '\n' || *s->at == '\t' || *s->at == '\r'))
        s->at++;
    return s->at < s->end ? *s->at : '\0';
}

static bool skip(scan* s, char c, const char* what) {
    if (peek(s) != c || s->at == s->end) return fail(s, what);
    s->at++;
    return true;
}

static int hex(char c) {
    if (c >= '0' && c <= '9') return c - '0';
    if (c >= 'a' && c <= 'f') return c - 'a' + 10;
    if (c >= 'A' && c <= 'F') return c - 'A' + 10;
    return -1;
}

/* The four digits behind \u; -1: they are none. */
static int32_t code_unit(scan* s) {
    int32_t code = 0;
    if (s->end - s->at < 4) return -1;
    for (int i = 0; i < 4; i++) {
        const int digit = hex(s->at[i]);
        if (digit < 0) return -1;
        code = code * 16 + digit;
    }
    s->at += 4;
    return code;
}

/* A character behind \u, pairs of surrogates put together, as UTF-8 at *to, which is never past
 * where it was read. */
static bool unicode(scan* s, char** to) {
    int32_t c = code_unit(s);
    if (c >= 0xd800 && c < 0xdc00 && s->end - s->at >= 6 && s->at[0] == '\\' && s->at[1] == 'u') {
        s->at += 2;
        const int32_t low = code_unit(s);
        c = low >= 0xdc00 && low < 0xe000 ? 0x10000 + ((c - 0xd800) << 10) + (low - 0xdc00) : -1;
    }
    if (c <= 0 || (c >= 0xd800 && c < 0xe000)) return fail(s, "an escape that is no character");
    uint8_t* o = (uint8_t*)*to;
    if (c < 0x80) {
        *o++ = (uint8_t)c;
    } else {
        const int more = c < 0x800 ? 1 : c < 0x10000 ? 2 : 3;
        static const uint8_t first[] = {0, 0xc0, 0xe0, 0xf0};
        *o++ = (uint8_t)(first[more] | c >> (6 * more));
        for (int i = more - 1; i >= 0; i--) *o++ = (uint8_t)(0x80 | (c >> (6 * i) & 63));
    }
    *to = (char*)o;
    return true;
}

static bool escape(scan* s, char** to) {
    static const char from[] = "\"\\/bfnrt", is[] = "\"\\/\b\f\n\r\t";
    if (s->at == s->end) return fail(s, "a string that does not end");
    const char c = *s->at++;
    if (c == 'u') return unicode(s, to);
    const char* found = c ? strchr(from, c) : NULL;
    if (!found) return fail(s, "an unknown escape");
    *(*to)++ = is[found - from];
    return true;
}

/* A string, undone of its escapes where it stands, and terminated: *out is a view of the text. */
static bool string(scan* s, const char** out) {
    if (!skip(s, '"', "a string was expected")) return false;
    char* to = s->at;
    *out = to;
    while (s->at < s->end && *s->at != '"') {
        const char c = *s->at++;
        if (c == '\\') {
            if (!escape(s, &to)) return false;
        } else if ((unsigned char)c < 0x20) {
            return fail(s, "a control character in a string");
        } else {
            *to++ = c;
        }
    }
    if (s->at == s->end) return fail(s, "a string that does not end");
    s->at++;
    *to = '\0';
    return true;
}

/* A whole number that is not negative. */
static bool size(scan* s, int64_t* out) {
    const char c = peek(s);
    if (c < '0' || c > '9') return fail(s, "a size or offset that is no whole number from 0 on");
    *out = 0;
    for (bool leading = true; s->at < s->end && *s->at >= '0' && *s->at <= '9'; leading = false) {
        if (*out == 0 && !leading) return fail(s, "a number that begins with 0");
        if (!lp__mul_ok(*out, 10, out) || !lp__add_ok(*out, *s->at - '0', out))
            return fail(s, "a size or offset that is too large");
        s->at++;
    }
    if (s->at < s->end && (*s->at == '.' || *s->at == 'e' || *s->at == 'E'))
        return fail(s, "a size or offset that is no whole number from 0 on");
    return true;
}

/* Whether another element of a list that ends with `close` follows; *first: none came yet. */
static bool more(scan* s, char close, bool* first) {
    if (s->status != LP_OK) return false;
    if (peek(s) == close && s->at < s->end) {
        s->at++;
        return false;
    }
    if (!*first && !skip(s, ',', "a comma or the end was expected")) return false;
    *first = false;
    return true;
}

/* ---- a tensor -------------------------------------------------------------------------------- */

static bool dtype(scan* s, lp__safetensors_entry* e) {
    const char* name;
    if (!string(s, &name)) return false;
    for (int i = 0; i < LP__SAFETENSORS_DTYPES; i++) {
        if (strcmp(dtypes[i].name, name) == 0) {
            e->dtype = (uint8_t)i;
            return true;
        }
    }
    s->status = lp_fail(s->file->ctx, LP_UNSUPPORTED,
                        "%s: tensor \"%.80s\" is of the type \"%.20s\", which is not known",
                        s->file->path, e->name, name);
    return false;
}

static bool shape(scan* s, lp__safetensors_entry* e) {
    bool first = true;
    e->rows = e->cols = 1;
    if (!skip(s, '[', "a shape is a list")) return false;
    while (more(s, ']', &first)) {
        if (e->dims == DIMS_LIMIT) return fail(s, "more than 8 dimensions");
        int64_t next;
        if (!size(s, &next)) return false;
        if (!lp__mul_ok(e->rows, e->cols, &e->rows)) return fail(s, "a shape that overflows");
        e->cols = next;
        e->dims++;
    }
    return s->status == LP_OK;
}

static bool offsets(scan* s, lp__safetensors_entry* e) {
    int64_t at[2];
    if (!skip(s, '[', "data_offsets are a list") || !size(s, &at[0]) ||
        !skip(s, ',', "data_offsets are two numbers") || !size(s, &at[1]) ||
        !skip(s, ']', "data_offsets are two numbers"))
        return false;
    if (at[0] > at[1]) return fail(s, "data_offsets that fall");
    e->begin = (uint64_t)at[0];
    e->end = (uint64_t)at[1];
    return true;
}

/* The bytes of a tensor are those of its shape. */
static bool check_size(scan* s, const lp__safetensors_entry* e) {
    int64_t bits;
    if (!lp__mul_ok(e->rows, e->cols, &bits) || !lp__mul_ok(bits, dtypes[e->dtype].bits, &bits))
        return fail(s, "a shape that overflows");
    if (bits % 8 != 0) return fail(s, "a tensor that ends within a byte");
    if ((uint64_t)bits / 8 != e->end - e->begin)
        return fail(s, "data_offsets that do not fit the shape");
    return true;
}

static bool tensor(scan* s, const char* name) {
    lp__safetensors_entry e = {.name = name};
    static const char* const keys[] = {"dtype", "shape", "data_offsets"};
    unsigned seen = 0;
    bool first = true;
    if (!*name || strlen(name) > NAME_LIMIT)
        return fail(s, "a tensor's name is empty or of more than 1,024 bytes");
    if ((size_t)s->file->count == s->room) return fail(s, "more than 65,536 tensors");
    if (!skip(s, '{', "a tensor is an object")) return false;
    while (more(s, '}', &first)) {
        const char* key;
        if (!string(s, &key) || !skip(s, ':', "a colon was expected")) return false;
        int k = 0;
        while (k < 3 && strcmp(keys[k], key) != 0) k++;
        if (k == 3) return fail(s, "a field that tensors do not have");
        if (seen & 1u << k) return fail(s, "a field that is there twice");
        seen |= 1u << k;
        if (!(k == 0 ? dtype(s, &e) : k == 1 ? shape(s, &e) : offsets(s, &e))) return false;
    }
    if (s->status != LP_OK) return false;
    if (seen != 7) return fail(s, "a tensor without dtype, shape or data_offsets");
    if (!check_size(s, &e)) return false;
    s->file->entries[s->file->count++] = e;
    return true;
}

static bool metadata(scan* s) {
    lp__safetensors* f = s->file;
    bool first = true;
    if (f->metadata) return fail(s, "__metadata__ is there twice");
    if (!skip(s, '{', "__metadata__ is an object")) return false;
    size_t room = 8;
    f->metadata = lp__alloc(f->ctx, 2 * room * sizeof *f->metadata);
    if (!f->metadata) s->status = LP_NOMEM;
    while (more(s, '}', &first)) {
        if ((size_t)f->metadata_count == room) {
            if (room == TENSORS_LIMIT) return fail(s, "too many entries of __metadata__");
            void* grown =
                lp__realloc(f->ctx, (void*)f->metadata, 2 * (room *= 2) * sizeof *f->metadata);
            if (!grown) {
                s->status = LP_NOMEM;
                return false;
            }
            f->metadata = grown;
        }
        const char** pair = f->metadata + 2 * f->metadata_count;
        if (!string(s, &pair[0]) || !skip(s, ':', "a colon was expected") || !string(s, &pair[1]))
            return false;
        f->metadata_count++;
    }
    return s->status == LP_OK;
}

/* ---- the whole ------------------------------------------------------------------------------- */

static int by_name(const void* a, const void* b) {
    return strcmp(((const lp__safetensors_entry*)a)->name, ((const lp__safetensors_entry*)b)->name);
}

static int by_place(const void* a, const void* b) {
    const lp__safetensors_entry *x = a, *y = b;
    if (x->begin != y->begin) return x->begin < y->begin ? -1 : 1;
    return x->end == y->end ? 0 : x->end < y->end ? -1 : 1;
}

static int by_key(const void* a, const void* b) {
    return strcmp(*(const char* const*)a, *(const char* const*)b);
}

/* Tensors follow each other from the first byte to the last, in any order of the header: no byte is
 * two tensors', and none is nobody's. */
static bool check_places(scan* s) {
    lp__safetensors* f = s->file;
    const uint64_t bytes = f->size - f->data;
    uint64_t at = 0;
    qsort(f->entries, (size_t)f->count, sizeof *f->entries, by_place);
    for (int64_t i = 0; i < f->count; i++) {
        lp__safetensors_entry* e = &f->entries[i];
        if (e->begin != at)
            return fail(s, e->begin < at ? "two tensors overlap" : "a hole between two tensors");
        if (e->end > bytes) return fail(s, "a tensor goes past the end of the file");
        at = e->end;
        e->begin += f->data;
        e->end += f->data;
    }
    return at == bytes || fail(s, "it is longer than its tensors");
}

static bool check_names(scan* s) {
    const lp__safetensors* f = s->file;
    qsort(f->entries, (size_t)f->count, sizeof *f->entries, by_name);
    for (int64_t i = 1; i < f->count; i++) {
        if (strcmp(f->entries[i - 1].name, f->entries[i].name) == 0)
            return fail(s, "a tensor is there twice");
    }
    if (f->metadata)
        qsort((void*)f->metadata, (size_t)f->metadata_count, 2 * sizeof *f->metadata, by_key);
    for (int64_t i = 1; i < f->metadata_count; i++) {
        if (strcmp(f->metadata[2 * i - 2], f->metadata[2 * i]) == 0)
            return fail(s, "a key of __metadata__ is there twice");
    }
    return true;
}

lp_status lp__safetensors_read_header(lp__safetensors* f, char* text, size_t bytes) {
    scan s = {.file = f, .at = text, .end = text + bytes, .text = text};
    bool first = true;
    const int64_t bad = lp__utf8_error(text, bytes);
    if (bad >= 0) {
        s.at += bad;
        fail(&s, "not UTF-8");
        return s.status;
    }
    /* a tensor has a brace at least, and 50 bytes */
    for (size_t i = 0; i < bytes; i++) s.room += text[i] == '{';
    s.room = LP__MIN(LP__MIN(s.room, bytes / 50 + 1), (size_t)TENSORS_LIMIT);
    f->entries = lp__alloc(f->ctx, s.room * sizeof *f->entries);
    if (!f->entries) return LP_NOMEM;
    if (bytes == 0 || *text != '{') {
        fail(&s, "it does not begin with \"{\"");
        return s.status;
    }
    s.at++;
    while (more(&s, '}', &first)) {
        const char* name;
        if (!string(&s, &name) || !skip(&s, ':', "a colon was expected")) break;
        if (!(strcmp(name, "__metadata__") == 0 ? metadata(&s) : tensor(&s, name))) break;
    }
    if (s.status == LP_OK && peek(&s) != '\0') fail(&s, "something behind its end");
    if (s.status == LP_OK && s.at != s.end) fail(&s, "something behind its end");
    if (s.status == LP_OK && check_places(&s)) check_names(&s);
    return s.status;
}
