/* The inside of a tape: nodes, the op table, what an op may use. */
#ifndef LP__TAPE_H
#define LP__TAPE_H

#include "base/base.h"
#include "kernels/product.h"
#include <logpi/tensor.h>
#include <math.h>
#include <string.h>

typedef struct lp__node lp__node;
typedef struct lp__pending lp__pending;

/* An op: what it computes, and how its gradient flows. [0] is float, [1] double; both are the same
 * text where the op has no kernels of its own. backward adds to the gradients of those inputs that
 * need one. A failure is recorded with lp__tape_fail. */
typedef struct lp__op {
    const char* name;
    void (*forward[2])(lp__node* node);
    void (*backward[2])(lp__node* node);
    int index; /* which input is an index (LP_I32), checked by the op's constructor; 0: none */
} lp__op;

#define LP__OP(name) extern const lp__op lp__op_##name;
#include "tensor/ops.inc"
#undef LP__OP

/* One sequence of an attention op: rows first .. first + count - 1 follow `past` rows, cached in
 * `slot` or in the same batch. */
typedef struct lp__span {
    int64_t first, count, past;
    int32_t slot;
    int64_t
        prefix; /* without a cache: the span whose rows, `past` of them, come before; -1: none */
} lp__span;

/* A layer of a perceptron: its parameters, its widths, W^T in panels, and what it gave, [rows,
 * out]. */
typedef struct lp__mlp_layer {
    lp__node *w, *b;
    int64_t in, out;
    const float* packed;
    void* h;
} lp__mlp_layer;

/* What an op is told besides its inputs. */
typedef union lp__attr {
    struct {
        double a, b; /* factor, addend, bounds, eps */
    } number;
    struct {
        int64_t head_dim;
        double scale;
        const float* frequencies; /* [head_dim / 2], until forward has copied them */
    } rope;
    struct {
        int64_t heads, kv_heads, sequences;
        const lp__span* spans;
        lp_kv* cache;
        int64_t layer;
    } attention;
    struct {
        int layers;
        lp_activation activation;
        lp__mlp_layer* layer; /* [layers], on the tape */
    } mlp;
    void* state; /* of an op that another layer defines; on the tape */
} lp__attr;

enum { LP__MAX_INPUTS = 4 };

struct lp__node {
    struct lp_tensor_s t; /* first: an lp_tensor is a pointer to it */
    const lp__op* op;     /* NULL: a leaf */
    lp_tape* tape;        /* NULL: a parameter */
    lp__node* previous;   /* on the tape */
    lp__node* in[LP__MAX_INPUTS];
    lp__attr attr;
    void* saved; /* between forward and backward */
    /* parameters only */
    lp__number number;    /* what its products multiply */
    lp__word* operand[2]; /* by lp__side: packed copies, made when first used */
    size_t operand_words[2];
    bool operand_valid[2]; /* they are of the numbers as they are now */
    void* spent;           /* memory of a gradient that a step has used up: t.grad is then NULL */
    lp__arena* arena;      /* of the set */
    lp__node* tied_to;     /* the base of a tied use */
    lp__pending* pending;  /* of a tied use: gradients of rows, not added up yet; NULL: none ever */
};

struct lp_tape {
    lp_ctx* ctx;
    lp__arena arena;
    lp_dtype type;
    bool recording, recompute;
    lp_status status;
    lp__node* last;
    bool walked; /* backward has been: gradients of intermediate results are spent */
};

static inline lp__node* lp__node_of(lp_tensor x) { return (lp__node*)(uintptr_t)x; }
static inline int64_t lp__size(const lp__node* n) { return n->t.rows * n->t.cols; }
static inline size_t lp__dtype_bytes(lp_dtype type) { return type == LP_F64 ? 8 : 4; }
static inline lp_ctx* lp__node_ctx(const lp__node* n) { return n->tape->ctx; }

/* Makes the tape's status sticky; returns NULL so that a constructor can return it. */
lp_tensor lp__tape_fail(lp_tape* tape, lp_status status);

/* A leaf of the tape, its data not set. */
lp__node* lp__leaf(lp_tape* tape, lp_dtype type, int64_t rows, int64_t cols);

/* Runs an op of the tape's type; inputs may be NULL from the first unused on. NULL after a failure.
 */
lp_tensor lp__apply(lp_tape* tape, const lp__op* op, int64_t rows, int64_t cols,
                    const lp_tensor* inputs, int n_inputs, const lp__attr* attr);

/* True if the tape is sound, all inputs are there, and none has another type than the tape's. */
bool lp__inputs_ok(lp_tape* tape, const lp_tensor* inputs, int n_inputs);

/* Memory of the tape until its reset; NULL after lp__tape_fail. */
void* lp__tape_alloc(lp_tape* tape, size_t bytes);

/* The gradient of a node, made zero if it is new; NULL if none is needed or memory is out. */
void* lp__grad(lp__node* node);
/* The same, but if it is new it is not cleared and *fresh is set: the caller must then write all of
 * it. */
void* lp__grad_raw(lp__node* node, bool* fresh);

/* A parameter W [out, in] as the right operand of X W^T, or of dY W, packed in its number format;
 * NULL if node is no parameter or memory is out. */
typedef enum lp__side { LP__TRANSPOSED, LP__PLAIN } lp__side;
const lp__word* lp__weight_operand(lp_ctx* ctx, lp__node* w, lp__side side);

/* Rows of floats [rows, n] to rows of words. */
void lp__store_rows(lp_ctx* ctx, lp__number number, int64_t rows, int64_t n, const float* x,
                    lp__word* out);
/* The words of rows [rows, n], row by row; floats are their own. The rest is in the context's
 * scratch. NULL when out of memory. */
const lp__word* lp__words_of(lp_ctx* ctx, lp__number number, int64_t rows, int64_t n,
                             const float* x);

/* Notes gradients d [n, cols] of rows of a tied parameter, to be added to the base by
 * lp_params_fold: a table that is read has gradients in few rows. False when out of memory. */
bool lp__pending_add(lp_ctx* ctx, lp__node* tied, int64_t n, const int32_t* row, const float* d);

/* ---- packed sequences: whether offsets [sequences + 1] begin at 0 and never fall; *rows is then
 * where they end ---- */
bool lp__offsets_ok(int64_t sequences, const int64_t* offsets, int64_t* rows);
/* Spans of an attention's sequences; false if a cache has no room for them (by the assert hook). */
bool lp__spans_fill(lp_tape* tape, int64_t head_dim, const lp_attention_def* def, lp__span* spans);

/* ---- key-value cache ---------------------------------------------------------------------------
 */

/* Keys and values of a head, see kv.c. Panel i is `key_step` (`value_step`) words behind the one
 * before it; panels of rows before `shared` are in base, the others in its own, all at their
 * absolute place. */
typedef struct lp__kv_view {
    lp__word *base_keys, *base_values, *keys, *values;
    int64_t shared, key_step, value_step;
} lp__kv_view;
lp__kv_view lp__kv_view_of(const lp_kv* kv, int64_t layer, int32_t slot, int64_t head);
/* Rows from.. of a head, `count` rows of words, ld words apart, to their places in panels, `step`
 * words apart: columns of keys [words][panel], halves of values [panel / numbers][head_dim]. Rows
 * come in order: the first of a panel, or of a pair, clears what is behind it. */
void lp__kv_put_keys(const lp__kernels* kernels, int64_t words, lp__word* panels, int64_t step,
                     int64_t from, int64_t count, const lp__word* k, int64_t ld);
void lp__kv_put_values(const lp__kernels* kernels, lp__number number, int64_t head_dim,
                       lp__word* panels, int64_t step, int64_t from, int64_t count,
                       const lp__word* v, int64_t ld);
lp__number lp__kv_number(const lp_kv* kv);
/* Another format, other numbers of slots and rows (both positive), all slots empty; memory is asked
 * for only if there is too little. After LP_NOMEM the cache has no slots until it is reshaped
 * again. */
lp_status lp__kv_reshape(lp_kv* kv, lp__number number, int32_t slots, int64_t capacity);
/* Whether every slot [n] is there, and none is named twice; NULL: false. */
bool lp__kv_slots_ok(lp_kv* kv, int64_t n, const int32_t* slot);
/* Whether `rows` more rows of so many heads fit behind those of the slot, which must be there. */
bool lp__kv_fits(const lp_kv* kv, int64_t layer, int32_t slot, int64_t rows, int64_t heads,
                 int64_t head_dim);

/* ---- a row of logits: its maximum, log sum exp, and (if not NULL) its entropy, all from one order
 * of sums, so that sampling and learning find the same bits. scratch: n floats, only for the
 * entropy. ---------------------------- */
typedef struct lp__row_stats {
    float max;
    double sum, lse, entropy; /* sum: of e^(z - max) */
} lp__row_stats;
lp__row_stats lp__logits_stats(const struct lp__kernels* kernels, int64_t n, const float* z,
                               float* scratch);

/* ---- kept sets: n entries, see lp_head_def ------------------------------------------------------
 */

/* Whether they tell a set of tokens of the vocabulary, in order, with the target. */
bool lp__kept_ok(int64_t n, const int32_t* kept, int64_t vocab, int32_t target);
/* Puts the numbers of the set's tokens at the front of x, by rising id, and back, zero elsewhere: z
 * [vocab]. Gathering returns how many they are; there is at least one entry. */
int64_t lp__kept_gather(int64_t n, const int32_t* kept, int64_t vocab, const float* z, float* x);
void lp__kept_scatter(int64_t n, const int32_t* kept, int64_t vocab, const float* x, float* z);
/* Tells the set ids[0..n), rising, of less than the whole vocabulary in the fewer entries: at most
 * half as many as the vocabulary has. They may not overlap ids; returns how many there are. */
int64_t lp__kept_write(int64_t n, const int32_t* ids, int64_t vocab, int32_t* kept);

#endif
