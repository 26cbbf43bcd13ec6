/* The key-value cache under the fused block, in both formats: rows that come piece by piece have
 * the bits of the whole sequence; forks share whole blocks, grow apart from their base, and hold
 * it. */
#include "block_rig.h"

enum { LAYERS = 2, SLOTS = 6, CAPACITY = 400 };

static int told;
static void count(void* user, const char* condition, const char* where, const char* message) {
    (void)user, (void)condition, (void)where, (void)message;
    told++;
}

/* A sequence: which rows of x. */
typedef struct text {
    int32_t index[CAPACITY];
    int64_t rows;
    float* whole; /* [rows, width]: what a run without a cache gives */
} text;

typedef struct cache_rig {
    block_rig r;
    lp_kv* kv;
    text texts[SLOTS];
    int64_t done[SLOTS]; /* rows of slot s, which are of text s */
} cache_rig;

/* Both layers have the same weights; the cache tells them apart. */
static lp_tensor layers(block_rig* r, lp_attention_def* def, const int32_t* index,
                        const int32_t* position) {
    def->layer = 0;
    lp_tensor x = block_run(r, true, def, index, position);
    if (!x) return NULL;
    int32_t order[CAPACITY * SLOTS];
    for (int64_t i = 0; i < x->rows; i++) order[i] = (int32_t)i;
    lp_tensor all = r->x;
    r->x = x;
    def->layer = 1;
    x = block_run(r, true, def, order, position);
    r->x = all;
    return x;
}

static void run_whole(block_rig* r, text* s) {
    int32_t position[CAPACITY];
    for (int32_t i = 0; i < CAPACITY; i++) position[i] = i;
    const int64_t offsets[] = {0, s->rows};
    lp_attention_def def = {
        .heads = r->f->heads, .kv_heads = r->f->kv_heads, .sequences = 1, .offsets = offsets};
    lp_tape_reset(r->t);
    lp_tensor y = layers(r, &def, s->index, position);
    s->whole = malloc((size_t)size_of(y) * sizeof(float));
    memcpy(s->whole, y->data, (size_t)size_of(y) * sizeof(float));
}

/* rows[i] more rows of each slot[i], all in one batch, compared. */
static void grow(cache_rig* c, int n, const int32_t* slot, const int64_t* rows) {
    int64_t offsets[SLOTS + 1] = {0};
    int32_t index[CAPACITY * SLOTS], position[CAPACITY * SLOTS];
    const int64_t width = c->r.f->width;
    for (int i = 0; i < n; i++) {
        const text* s = &c->texts[slot[i]];
        offsets[i + 1] = offsets[i] + rows[i];
        assert_true(c->done[slot[i]] + rows[i] <= s->rows);
        for (int64_t j = 0; j < rows[i]; j++) {
            index[offsets[i] + j] = s->index[c->done[slot[i]] + j];
            position[offsets[i] + j] = (int32_t)(c->done[slot[i]] + j);
        }
    }
    lp_attention_def def = {.heads = c->r.f->heads,
                            .kv_heads = c->r.f->kv_heads,
                            .sequences = n,
                            .offsets = offsets,
                            .cache = c->kv,
                            .slot = slot};
    lp_tape_reset(c->r.t);
    lp_tensor y = layers(&c->r, &def, index, position);
    assert_non_null(y);
    for (int i = 0; i < n; i++) {
        if (memcmp(lp_f32(y) + offsets[i] * width,
                   c->texts[slot[i]].whole + c->done[slot[i]] * width,
                   (size_t)(rows[i] * width) * sizeof(float)) != 0)
            fail_msg("%s: slot %d behind row %d", c->r.f->name, slot[i], (int)c->done[slot[i]]);
        lp_kv_advance(c->kv, slot[i], rows[i]);
        c->done[slot[i]] += rows[i];
        assert_int_equal(lp_kv_length(c->kv, slot[i]), c->done[slot[i]]);
    }
}

/* Other rows behind those of a slot, and no step forward: as a pass that fails later on. */
static void give_up(cache_rig* c, int32_t slot, int64_t rows) {
    const int64_t offsets[] = {0, rows};
    int32_t position[CAPACITY];
    for (int64_t i = 0; i < rows; i++) position[i] = (int32_t)(c->done[slot] + i);
    lp_attention_def def = {.heads = c->r.f->heads,
                            .kv_heads = c->r.f->kv_heads,
                            .sequences = 1,
                            .offsets = offsets,
                            .cache = c->kv,
                            .slot = &slot};
    lp_tape_reset(c->r.t);
    assert_non_null(layers(&c->r, &def, c->texts[5].index, position));
}

static void fork_slot(cache_rig* c, int32_t from, int32_t to) {
    lp_kv_fork(c->kv, from, to);
    c->done[to] = c->done[from];
    assert_int_equal(lp_kv_length(c->kv, to), c->done[to]);
    assert_int_equal(told, 0);
}

static void refused(int times) {
    assert_int_equal(told, times);
    told = 0;
}

/* Texts 0 to 4 have the prompt of 0; 4 has `more` rows of 1 besides. Text 5 is another. */
static cache_rig cache_rig_make(const family* f, int number, int isa, int64_t prompt,
                                int64_t more) {
    lp_ctx_def def = lp_ctx_def_default();
    def.threads = 2;
    def.isa = isa;
    def.assertion = count;
    cache_rig c = {.r = block_rig_make(f, LP_F32, number, &def, (1u << FIELDS) - 1)};
    lp_tape_record(c.r.t, false);
    told = 0;
    for (int s = 0; s < SLOTS; s++) {
        text* x = &c.texts[s];
        x->rows = prompt + more + 60;
        for (int32_t i = 0; i < x->rows; i++) {
            const int64_t same = s == 4 ? prompt + more : prompt;
            const int32_t owner = s == 5 ? 5 : i < prompt ? 0 : s == 4 && i < same ? 1 : s;
            x->index[i] = (i * 7 + owner * 131 + 1) % MAX_ROWS;
        }
        run_whole(&c.r, x);
    }
    assert_int_equal(lp_kv_create(c.r.ctx, number == LP__BF16 ? LP_BFLOAT16 : LP_FLOAT32, LAYERS,
                                  f->kv_heads, f->head_dim, SLOTS, CAPACITY, &c.kv),
                     LP_OK);
    return c;
}
static void cache_rig_free(cache_rig* c) {
    for (int s = 0; s < SLOTS; s++) free(c->texts[s].whole);
    lp_ctx_destroy(c->r.ctx);
}

static void check_forks(const family* f, int number, int isa, int64_t prompt, int64_t more) {
    cache_rig c = cache_rig_make(f, number, isa, prompt, more);
    const int64_t panel = lp__ctx_kernels(c.r.ctx)->panel;
    const bool shared = prompt >= panel;      /* else a fork is a copy, and holds nothing */
    for (int round = 0; round < 2; round++) { /* slots that were used before are as good */
        grow(&c, 1, (int32_t[]){0}, (int64_t[]){prompt});
        fork_slot(&c, 0, 1);
        fork_slot(&c, 0, 2);
        grow(&c, 3, (int32_t[]){1, 0, 2}, (int64_t[]){more, 3, 1}); /* the base grows on, too */
        fork_slot(&c, 1, 4);                                        /* a fork of a fork */
        grow(&c, 5, (int32_t[]){4, 2, 5, 0, 1}, (int64_t[]){1, 2, 50, 1, 1});
        for (int i = 0; i < 20; i++)
            grow(&c, 5, (int32_t[]){0, 1, 2, 4, 5}, (int64_t[]){1, 1, 1, 1, i % 2});
        /* What others stand on may neither go nor be replaced. */
        lp_kv_clear(c.kv, 0), refused(shared);
        if (shared) {
            lp_kv_fork(c.kv, 5, 0), refused(1);
            assert_int_equal(lp_kv_length(c.kv, 0), c.done[0]);
            lp_kv_fork(c.kv, 1, 0), refused(1);                     /* not by its own fork either */
            lp_kv_clear(c.kv, 1), lp_kv_clear(c.kv, 2), refused(0); /* these hold nothing */
            lp_kv_clear(c.kv, 0), refused(1);                       /* 4 is still there */
            grow(&c, 2, (int32_t[]){4, 0}, (int64_t[]){5, 5});
            lp_kv_clear(c.kv, 4), lp_kv_clear(c.kv, 0), refused(0);
        } else {
            /* 1 has whole blocks of its own meanwhile */
            lp_kv_clear(c.kv, 1), refused(prompt + more >= panel);
            lp_kv_clear(c.kv, 4), lp_kv_clear(c.kv, 1), lp_kv_clear(c.kv, 2), refused(0);
        }
        lp_kv_clear(c.kv, 5), refused(0);
        for (int32_t s = 0; s < SLOTS; s++) {
            assert_int_equal(lp_kv_length(c.kv, s), 0);
            c.done[s] = 0;
        }
        /* A fork over another fork lets go of what that stood on. */
        grow(&c, 2, (int32_t[]){0, 5}, (int64_t[]){prompt, prompt});
        fork_slot(&c, 0, 3);
        lp_kv_fork(c.kv, 5, 3), refused(0);
        lp_kv_clear(c.kv, 0), refused(0);
        lp_kv_clear(c.kv, 5), refused(shared);
        lp_kv_clear(c.kv, 3), lp_kv_clear(c.kv, 5), refused(0);
        memset(c.done, 0, sizeof c.done);
    }
    cache_rig_free(&c);
}

static void forks(void** state) {
    (void)state;
    /* below, at and behind whole blocks of every instruction set; odd and even */
    static const int64_t prompts[] = {5, 16, 47, 48, 49, 101, 144};
    for (int isa = 0; isa < LP_ISA_COUNT; isa++) {
        if (!lp__isa_available((lp_isa)isa)) continue;
        for (int number = LP__F32; number <= LP__BF16; number++)
            for (size_t p = 0; p < sizeof prompts / sizeof *prompts; p++)
                check_forks(&FAMILIES[p % 3], number, isa, prompts[p], p % 2 ? 7 : 60);
    }
}

/* A long prompt in pieces of all sizes, and row by row, each after an attempt that came to nothing.
 */
static void piece_by_piece(void** state) {
    (void)state;
    for (int isa = 0; isa < LP_ISA_COUNT; isa++) {
        if (!lp__isa_available((lp_isa)isa)) continue;
        for (int number = LP__F32; number <= LP__BF16; number++) {
            cache_rig c = cache_rig_make(&FAMILIES[0], number, isa, 130, 7);
            for (int64_t step = 1; c.done[0] < 190; step = step % 23 + 1)
                grow(&c, 2, (int32_t[]){0, 5}, (int64_t[]){LP__MIN(step, 190 - c.done[0]), 1});
            while (c.done[2] < 150) {
                give_up(&c, 2, 1 + c.done[2] % 3);
                grow(&c, 1, (int32_t[]){2}, (int64_t[]){1});
            }
            cache_rig_free(&c);
        }
    }
}

/* A cache of one format under weights of the other, on a recording tape, or too small. */
static void mistakes(void** state) {
    (void)state;
    for (int number = LP__F32; number <= LP__BF16; number++) {
        cache_rig c = cache_rig_make(&FAMILIES[0], number, -1, 20, 7);
        const int64_t offsets[] = {0, 2}, too_many[] = {0, CAPACITY + 1};
        const int32_t slot = 0, index[CAPACITY + 1] = {0}, position[CAPACITY + 1] = {0};
        lp_kv* other;
        assert_int_equal(lp_kv_create(c.r.ctx, number == LP__BF16 ? LP_FLOAT32 : LP_BFLOAT16,
                                      LAYERS, 2, 8, SLOTS, CAPACITY, &other),
                         LP_OK);
        lp_attention_def def = {.heads = 6,
                                .kv_heads = 2,
                                .sequences = 1,
                                .offsets = offsets,
                                .cache = other,
                                .slot = &slot};
        for (int way = 0; way < 3; way++) {
            lp_tape_reset(c.r.t);
            lp_tape_record(c.r.t, way == 1);
            def.cache = way == 0 ? other : c.kv;
            def.offsets = way == 2 ? too_many : offsets;
            assert_null(block_run(&c.r, true, &def, index, position));
            refused(1);
            assert_int_equal(lp_tape_status(c.r.t), LP_INVALID);
        }
        cache_rig_free(&c);
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(forks),
        cmocka_unit_test(piece_by_piece),
        cmocka_unit_test(mistakes),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
