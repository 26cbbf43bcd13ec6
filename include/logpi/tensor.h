/* logpi/tensor.h - tensors, the tape that differentiates, parameters, optimizers.
 *
 * A tensor is a matrix [rows, cols], row-major; a vector is [1, n], a scalar [1, 1], a ragged batch
 * of sequences is packed into rows. A tape runs each op at once and records what its backward
 * needs:
 *
 *     lp_tensor z    = lp_matmul(t, x, theta);          x [1, d], theta [d, k]
 *     lp_tensor loss = lp_sum(t, lp_mul(t, z, z));
 *     lp_backward(t, loss);                             theta->grad += d loss / d theta
 *     lp_tape_reset(t);                                 frees x, z, loss at once
 *
 * A tape has a sticky status: after a failure (out of memory, a cancelled context) every op returns
 * NULL, NULL inputs give NULL, and lp_backward returns the status; so formulas need no checks
 * between lines. A parameter that memory did not suffice for is such an input too: the tape's
 * status becomes LP_NOMEM. Shapes that cannot fit are the programmer's mistake: the assert hook of
 * the context is called. */
#ifndef LOGPI_TENSOR_H
#define LOGPI_TENSOR_H

#include <logpi/base.h>

#ifdef __cplusplus
extern "C" {
#endif

typedef enum lp_dtype { LP_F32, LP_F64, LP_I32 } lp_dtype;

/* Read the fields, write only through data and grad. A tensor made by an op lives until its tape is
 * reset or destroyed; a parameter as long as its set. */
typedef struct lp_tensor_s {
    int64_t rows, cols;
    lp_dtype type;
    bool needs_grad; /* a gradient flows into it */
    void* data;      /* [rows, cols] */
    void* grad;      /* [rows, cols] of the same type; NULL as long as there is none. An optimizer
                        step leaves the matrices of products without: lp_grad_f32 gives zeros */
} const* lp_tensor;

/* The elements as what they are; the type must be right. */
LP_API float* lp_f32(lp_tensor x);
LP_API double* lp_f64(lp_tensor x);
LP_API int32_t* lp_i32(lp_tensor x);
LP_API float* lp_grad_f32(lp_tensor x); /* NULL if x has no gradient */

/* Element [row, col] of data, or of the gradient (0 where there is none), as a double; of NULL:
 * NaN. */
LP_API double lp_at(lp_tensor x, int64_t row, int64_t col);
LP_API double lp_grad_at(lp_tensor x, int64_t row, int64_t col);
/* The value of a [1, 1] tensor; of NULL: NaN. */
LP_API double lp_item(lp_tensor x);

/* ---- parameters ------------------------------------------------------------------------------ */

/* A set of named parameters: one block of numbers, and (if trainable) one of gradients. A frozen
 * set is constant: no gradient flows into it. Several tapes may read one set. */
typedef struct lp_params lp_params;

/* An empty set of numbers of one type (LP_F32 or LP_F64); NULL when out of memory. It dies with its
 * context, or earlier by lp_params_destroy (NULL allowed), which must come after that of the
 * optimizers on it. */
LP_API lp_params* lp_params_create(lp_ctx* ctx, lp_dtype type, bool trainable);
LP_API void lp_params_destroy(lp_params* params);
LP_API lp_ctx* lp_params_ctx(const lp_params* params);

/* The parameter `name` [rows, cols], made (zero) if the set has none of that name; if it has one of
 * another shape the assert hook is called. NULL when out of memory. Names are copied. */
LP_API lp_tensor lp_param(lp_params* params, const char* name, int64_t rows, int64_t cols);
/* The same; if it was made now, its values are drawn from the standard normal distribution (a Torch
 * stream: torch.randn), otherwise they stay and rng does not move. */
LP_API lp_tensor lp_param_randn(lp_params* params, const char* name, int64_t rows, int64_t cols,
                                lp_rng* rng);
/* Another use of `base` (a tied weight) with a gradient of its own, which lp_params_fold adds to
 * that of base. A tied gradient keeps the order of each of its two sums, so that micro-batches
 * cannot change a bit. NULL when out of memory, or if base is NULL. */
LP_API lp_tensor lp_param_tied(lp_params* params, const char* name, lp_tensor base);

LP_API int64_t lp_params_count(const lp_params* params); /* tensors, tied uses not counted */
/* In order of creation, NULL if index is outside of 0 .. count - 1; borrowed for as long as the set
 * lives. */
LP_API lp_tensor lp_params_get(const lp_params* params, int64_t index);
LP_API const char* lp_params_name(const lp_params* params, int64_t index);
LP_API lp_tensor lp_params_find(const lp_params* params,
                                const char* name);      /* NULL if there is none */
LP_API int64_t lp_params_size(const lp_params* params); /* numbers in all tensors together */

/* Gradients to zero. */
LP_API void lp_params_zero_grad(lp_params* params);
/* Adds the gradients of tied uses to their bases and clears them. The optimizer calls it. */
LP_API void lp_params_fold(lp_params* params);
/* To be called after writing to the numbers by hand: forgets packed copies of them. */
LP_API void lp_params_changed(lp_params* params);
/* Euclidean norm of all gradients together, summed in double in a fixed order. Folds first. */
LP_API double lp_params_grad_norm(lp_params* params);
/* Whether no number of the set is NaN or infinite. */
LP_API bool lp_params_finite(const lp_params* params);
/* Copies the numbers of one set to another with the same names, shapes and type, in whatever order;
 * tied uses need no counterpart. LP_INVALID names the first parameter that differs, and nothing is
 * copied. */
LP_API lp_status lp_params_copy(lp_params* to, const lp_params* from);

/* ---- tape ------------------------------------------------------------------------------------ */

typedef struct lp_tape lp_tape;

/* type: what constants and intermediate results are, LP_F32 or LP_F64 (parameters must have the
 * same). NULL when out of memory. A tape dies with its context, or by lp_tape_destroy (NULL
 * allowed). */
LP_API lp_tape* lp_tape_create(lp_ctx* ctx, lp_dtype type);
LP_API void lp_tape_destroy(lp_tape* tape);
/* Frees every tensor of the tape and clears its status; its memory is kept for the next round. */
LP_API void lp_tape_reset(lp_tape* tape);
/* recording (the default): ops remember what backward needs. Otherwise they only compute. */
LP_API void lp_tape_record(lp_tape* tape, bool recording);
/* recompute: the blocks of a transformer keep their inputs only, and backward runs each once more:
 * less memory for one more forward pass of the blocks, the same bits. false at first. */
LP_API void lp_tape_recompute(lp_tape* tape, bool recompute);
LP_API lp_status lp_tape_status(const lp_tape* tape);
LP_API lp_ctx* lp_tape_ctx(const lp_tape* tape);
/* Bytes in use since the last reset, the gradients included. */
LP_API size_t lp_tape_bytes(const lp_tape* tape);

/* Adds d loss / d p to p->grad for every parameter p that loss depends on. loss is [1, 1]; several
 * losses are added up before, for a recording can be walked once only: a second call asks for
 * lp_tape_reset by the assert hook. Returns the status of the tape if an op failed, now or before:
 * the gradients of parameters are then unfinished, and to be cleared (lp_params_zero_grad).
 * LP_CANCELLED likewise. */
LP_API lp_status lp_backward(lp_tape* tape, lp_tensor loss);

/* ---- constants: copies of the caller's numbers, of the tape's type --------------------------- */
LP_API lp_tensor lp_const_f32(lp_tape* t, int64_t rows, int64_t cols, const float* values);
LP_API lp_tensor lp_const_f64(lp_tape* t, int64_t rows, int64_t cols, const double* values);
LP_API lp_tensor lp_const_i32(lp_tape* t, int64_t rows, int64_t cols, const int32_t* values);
LP_API lp_tensor lp_scalar(lp_tape* t, double value);
LP_API lp_tensor lp_zeros(lp_tape* t, int64_t rows, int64_t cols);
/* Standard normal; with a PyTorch stream torch.randn(rows, cols). */
LP_API lp_tensor lp_randn(lp_tape* t, lp_rng* rng, int64_t rows, int64_t cols);
/* The numbers of x as a constant: no gradient passes. */
LP_API lp_tensor lp_detach(lp_tape* t, lp_tensor x);
/* A constant that can be differentiated with respect to: after lp_backward its grad is set. */
LP_API lp_tensor lp_input_f64(lp_tape* t, int64_t rows, int64_t cols, const double* values);

/* ---- elementwise: y = f(x), y of the shape of x ---------------------------------------------- */
LP_API lp_tensor lp_neg(lp_tape* t, lp_tensor x);
LP_API lp_tensor lp_exp(lp_tape* t, lp_tensor x);
LP_API lp_tensor lp_log(lp_tape* t, lp_tensor x);
LP_API lp_tensor lp_tanh(lp_tape* t, lp_tensor x);
LP_API lp_tensor lp_sigmoid(lp_tape* t, lp_tensor x);
LP_API lp_tensor lp_silu(lp_tape* t, lp_tensor x); /* x sigmoid(x) */
LP_API lp_tensor lp_relu(lp_tape* t, lp_tensor x); /* derivative 0 at 0 */
LP_API lp_tensor lp_sqrt(lp_tape* t, lp_tensor x);
LP_API lp_tensor lp_square(lp_tape* t, lp_tensor x);
LP_API lp_tensor lp_scale(lp_tape* t, lp_tensor x, double factor);
LP_API lp_tensor lp_shift(lp_tape* t, lp_tensor x, double addend);
/* min(max(x, low), high); derivative 1 where low <= x <= high, as torch.clamp. */
LP_API lp_tensor lp_clamp(lp_tape* t, lp_tensor x, double low, double high);

/* ---- elementwise on two: b has the shape of a, or is a row [1, cols], a column [rows, 1], a
 * scalar --- */
LP_API lp_tensor lp_add(lp_tape* t, lp_tensor a, lp_tensor b);
LP_API lp_tensor lp_sub(lp_tape* t, lp_tensor a, lp_tensor b);
LP_API lp_tensor lp_mul(lp_tape* t, lp_tensor a, lp_tensor b);
LP_API lp_tensor lp_div(lp_tape* t, lp_tensor a, lp_tensor b);
/* Where a == b each gets half of the gradient, as torch.maximum and torch.minimum. */
LP_API lp_tensor lp_maximum(lp_tape* t, lp_tensor a, lp_tensor b);
LP_API lp_tensor lp_minimum(lp_tape* t, lp_tensor a, lp_tensor b);

/* ---- matrices -------------------------------------------------------------------------------- */
LP_API lp_tensor lp_matmul(lp_tape* t, lp_tensor a, lp_tensor b); /* [m, k] [k, n] -> [m, n] */
LP_API lp_tensor lp_transpose(lp_tape* t, lp_tensor a);
/* y = x W^T + b: x [m, in], W [out, in], b [1, out] or NULL; torch.nn.functional.linear. */
LP_API lp_tensor lp_linear(lp_tape* t, lp_tensor x, lp_tensor w, lp_tensor b);
/* y[i] = x[index[i]], index [n, 1] i32 in [0, rows). Also an embedding: x is the table. */
LP_API lp_tensor lp_rows(lp_tape* t, lp_tensor x, lp_tensor index);
/* y[i, 0] = x[i, index[i]], index [rows, 1] i32 in [0, cols). */
LP_API lp_tensor lp_pick(lp_tape* t, lp_tensor x, lp_tensor index);

/* ---- reductions (in double, in index order) -------------------------------------------------- */
LP_API lp_tensor lp_sum(lp_tape* t, lp_tensor x);     /* -> [1, 1] */
LP_API lp_tensor lp_mean(lp_tape* t, lp_tensor x);    /* -> [1, 1] */
LP_API lp_tensor lp_row_sum(lp_tape* t, lp_tensor x); /* -> [rows, 1] */
LP_API lp_tensor lp_softmax(lp_tape* t,
                            lp_tensor x); /* over each row; the maximum is subtracted first */
LP_API lp_tensor lp_log_softmax(lp_tape* t, lp_tensor x);
/* Of log-probabilities, [rows, n] -> [rows, 1]: the entropy -sum_j p_j log p_j of each row, and the
 * divergence KL(p || q) = sum_j p_j (log p_j - log q_j). Terms with p_j = 0 are 0 and have no
 * gradient, so that -inf may stand for an outcome that is ruled out; where q alone rules one out
 * the divergence is infinite. */
LP_API lp_tensor lp_row_entropy(lp_tape* t, lp_tensor log_p);
LP_API lp_tensor lp_row_kl(lp_tape* t, lp_tensor log_p, lp_tensor log_q);

/* ---- numbers inside matrix products ------------------------------------------------------------ */

/* bfloat16: operands are rounded to bf16, sums are fp32. Everything else, weights and gradients
 * included, is fp32 in both. Activations are rounded to nearest even; a weight up or down by a
 * threshold of its own, which leaves bf16 numbers as they are: its small steps then count on the
 * average, where nearest would not see them until they add up to half a unit. */
typedef enum lp_precision { LP_FLOAT32, LP_BFLOAT16 } lp_precision;

/* ---- transformer ----------------------------------------------------------------------------- */
/* y = x / sqrt(mean(x^2) + eps) * w over each row; w [1, cols]. Zhang and Sennrich 2019,
 * equation 4. */
LP_API lp_tensor lp_rmsnorm(lp_tape* t, lp_tensor x, lp_tensor w, double eps);
/* silu(gate) * up. Shazeer 2020, "GLU variants improve transformer", equation 6 without its
 * matrices. */
LP_API lp_tensor lp_swiglu(lp_tape* t, lp_tensor gate, lp_tensor up);
/* y = (x - mean(x)) / sqrt(var(x) + eps) * w + b over each row, the variance with divisor cols; w
 * [1, cols], b [1, cols] or NULL. Ba et al. 2016; torch.nn.functional.layer_norm. */
LP_API lp_tensor lp_layernorm(lp_tape* t, lp_tensor x, lp_tensor w, lp_tensor b, double eps);
/* x / 2 (1 + tanh(sqrt(2 / pi) (x + 0.044715 x^3))): GELU as GPT-2 has it, "gelu_new". Hendrycks
 * and Gimpel 2016, section 2. */
LP_API lp_tensor lp_gelu(lp_tape* t, lp_tensor x);
/* Rotary position embedding of heads of head_dim columns: pairs (i, i + head_dim / 2) of each head
 * are turned by position * frequencies[i], and multiplied by scale, which is 1 but for some ways of
 * stretching the context. position [rows, 1] i32; frequencies [head_dim / 2], copied. Su et al.
 * 2021, in the halves layout of transformers' Llama. */
LP_API lp_tensor lp_rope(lp_tape* t, lp_tensor x, lp_tensor position, int64_t head_dim,
                         const float* frequencies, double scale);
/* base^(-2 i / head_dim) for i below head_dim / 2: the frequencies of an unscaled embedding. */
LP_API void lp_rope_frequencies(int64_t head_dim, double base, float* frequencies);

/* Keys and values of sequences that grow row by row: `slots` sequences of at most `capacity` rows,
 * for `layers` attention layers of `heads` key-value heads of head_dim numbers, kept in the given
 * precision. LP_NOMEM is the only failure. Slots are 0 .. slots - 1; another one, rows that do not
 * fit, and a copy of a slot to itself call the assert hook, and nothing happens (the length is 0). */
typedef struct lp_kv lp_kv;
LP_API lp_status lp_kv_create(lp_ctx* ctx, lp_precision precision, int64_t layers, int64_t heads,
                              int64_t head_dim, int32_t slots, int64_t capacity, lp_kv** kv);
LP_API void lp_kv_destroy(lp_kv* kv);
LP_API int64_t lp_kv_length(const lp_kv* kv, int32_t slot); /* rows stored so far */
LP_API void lp_kv_clear(lp_kv* kv, int32_t slot);           /* the slot begins anew */
/* `rows` more rows of the slot are stored in every layer. */
LP_API void lp_kv_advance(lp_kv* kv, int32_t slot, int64_t rows);
/* Makes `to` a copy of `from` (a prompt computed once for several samples). The rows that fill whole
 * blocks are shared, not copied: as long as `to` holds them, `from` (or the slot that it is a copy
 * of itself) may grow but not be cleared or copied to, which calls the assert hook. */
LP_API void lp_kv_fork(lp_kv* kv, int32_t from, int32_t to);

typedef struct lp_attention_def {
    int64_t heads, kv_heads; /* kv_heads divides heads: grouped-query attention */
    int64_t sequences;
    const int64_t*
        offsets;  /* [sequences + 1]: sequence s is rows offsets[s] .. offsets[s+1]-1; copied */
    lp_kv* cache; /* NULL: the rows are whole sequences. Otherwise row i of sequence s continues
                     slot[s] */
    const int32_t* slot; /* [sequences], all different, with a cache */
    int64_t layer;       /* with a cache */
    const int64_t* prefix; /* without a cache: [sequences], an earlier sequence whose rows come before
                              those of this one, -1: none; a prefix has none itself. NULL: no
                              sequence has one. Copied */
} lp_attention_def;

/* Causal attention, softmax(q k^T / sqrt(head_dim)) v per head and sequence: q [n, heads *
 * head_dim], k and v [n, kv_heads * head_dim]. With a cache the tape must not be recording; k and v
 * are stored in it first, and lp_kv_advance moves on when all layers are done. */
LP_API lp_tensor lp_attention(lp_tape* t, lp_tensor q, lp_tensor k, lp_tensor v,
                              const lp_attention_def* def);

/* log softmax(h W^T / temperature) at the targets, without keeping tokens x vocabulary: h [n, d], W
 * [vocab, d], target [n, 1] i32 -> [n, 1]. Rows go through in blocks; backward computes each block
 * of logits again. If entropy is not NULL it receives the entropy of each row's distribution [n, 1]
 * as a constant. */
LP_API lp_tensor lp_head_logp(lp_tape* t, lp_tensor h, lp_tensor w, lp_tensor target,
                              double temperature, lp_tensor* entropy);

/* The same under the distribution that a token was really drawn from. Arrays are copied. */
typedef struct lp_head_def {
    double temperature;
    /* Rows offsets[s] .. offsets[s+1]-1 are of one sequence. In bfloat16 two rows of a sequence make
     * one step of the gradient of W: with offsets it has the same bits however sequences are cut
     * into batches, and costs half. NULL: every row is a step of its own. */
    int64_t sequences;
    const int64_t* offsets;
    /* Row i is renormalised on a set of tokens with the target (top-k, top-p, ...), told by the
     * entries kept[kept_offsets[i] .. kept_offsets[i+1]-1]: these ids, rising; or, where the first
     * is negative, all but those that stand there as -1 - id, the ids rising; none: the whole
     * vocabulary. Sets are constants of the gradient, and a set has the same bits however it is
     * told. NULL: all rows are of the whole vocabulary. */
    const int64_t* kept_offsets;
    const int32_t* kept;
} lp_head_def;
LP_API lp_tensor lp_head(lp_tape* t, lp_tensor h, lp_tensor w, lp_tensor target,
                         const lp_head_def* def, lp_tensor* entropy);

/* ---- multilayer perceptron ------------------------------------------------------------------- */

typedef enum lp_activation { LP_TANH, LP_RELU } lp_activation;

/* Layers from the input on: W [out, in] and b [1, out], as torch.nn.Linear has them. nn.h makes and
 * initialises one. */
enum { LP_MLP_LAYERS = 8 };
typedef struct lp_mlp {
    int layers;               /* 1 .. LP_MLP_LAYERS */
    lp_activation activation; /* after every layer but the last */
    lp_tensor weight[LP_MLP_LAYERS], bias[LP_MLP_LAYERS];
} lp_mlp;

/* y = W_L f(... f(W_1 x + b_1) ...) + b_L of each row, x [n, in] -> [n, out]. Rows pass through all
 * layers in tiles; the same bits for any number of threads, and for a row in any company. */
LP_API lp_tensor lp_mlp_forward(lp_tape* t, const lp_mlp* mlp, lp_tensor x);

/* ---- optimizers ------------------------------------------------------------------------------ */

typedef enum lp_optim_kind { LP_SGD, LP_ADAM, LP_ADAMW, LP_RMSPROP } lp_optim_kind;

/* Names, defaults and formulas are those of torch.optim: Adam of Kingma and Ba 2015 (algorithm 1),
 * AdamW of Loshchilov and Hutter 2019, RMSprop of Hinton's lecture 6e. */
typedef struct lp_optim_def {
    uint32_t cookie;
    lp_optim_kind kind;
    double learning_rate; /* 1e-3 */
    double beta1, beta2;  /* Adam, AdamW: 0.9, 0.999 */
    double eps;           /* 1e-8 */
    double weight_decay;  /* SGD, Adam, RMSprop: added to the gradient; AdamW: decoupled. 0 */
    double momentum;      /* SGD, RMSprop: 0 */
    double alpha;         /* RMSprop: 0.99 */
    double max_grad_norm; /* gradients are scaled down to this norm; 0: never. As torch's
                             clip_grad_norm_ */
} lp_optim_def;

typedef struct lp_optim lp_optim;

LP_API lp_optim_def lp_optim_def_default(lp_optim_kind kind);
/* An optimizer of every parameter of a trainable set, which must be complete and outlive it.
 * LP_INVALID: a value of def is out of range; LP_NOMEM. It dies with its context, or by
 * lp_optim_destroy (NULL allowed). */
LP_API lp_status lp_optim_create(lp_params* params, const lp_optim_def* def, lp_optim** optim);
LP_API void lp_optim_destroy(lp_optim* optim);
LP_API void lp_optim_set_learning_rate(lp_optim* optim,
                                       double learning_rate); /* from the next step on */
/* One step down the gradients, which are then zero (see lp_tensor: or NULL). If a gradient is not finite, returns
 * LP_NONFINITE and names the parameter; nothing moves, and the gradients stay to be looked at.
 * *grad_norm (NULL allowed): the norm before clipping. */
LP_API lp_status lp_optim_step(lp_optim* optim, double* grad_norm);
/* Remembers parameters and state as they are now, in place of what was remembered before;
 * lp_optim_rollback goes back there, bit for bit, any number of times (and without a savepoint
 * calls the assert hook). The memory, that of parameters and state once more, is taken by the first
 * call and kept: LP_NOMEM, nothing is then remembered. */
LP_API lp_status lp_optim_savepoint(lp_optim* optim);
LP_API void lp_optim_rollback(lp_optim* optim);

/* ---- files ----------------------------------------------------------------------------------- */

/* Writes a set as safetensors (F32 or F64), whole or not at all. names (NULL: the set's own) gives
 * each parameter its name in the file, NULL entries are left out. metadata: pairs of strings,
 * ending with NULL; may be NULL. */
LP_API lp_status lp_params_save(const lp_params* params, const char* path, const char* const* names,
                                const char* const* metadata);

/* ---- matrix products by themselves ----------------------------------------------------------- */

/* The three products of a linear layer: y = x W^T; dx = dy W; dW += dy^T x, with the packing of
 * its operands. */
typedef enum lp_product_pass { LP_PRODUCT_FORWARD, LP_PRODUCT_DX, LP_PRODUCT_DW } lp_product_pass;

typedef struct lp_product_def {
    lp_product_pass pass;
    lp_precision precision;
    int64_t rows, out, in; /* x [rows, in], W [out, in], y [rows, out]; 1..2^24 */
} lp_product_def;

typedef struct lp_product_timing {
    double seconds;           /* of one product */
    lp_machine before, after; /* without reading memory */
} lp_product_timing;

/* Runs the product of some numbers `repeats` times (at least 1) after once to warm up, the machine
 * probed right before and after. LP_INVALID: a value out of range; LP_NOMEM, LP_CANCELLED. */
LP_API lp_status lp_product_time(lp_ctx* ctx, const lp_product_def* def, int repeats,
                                 lp_product_timing* timing);

/* ---- gradient check -------------------------------------------------------------------------- */

/* One case: the gradient of loss(inputs) in double is compared with central differences in every
 * element, and the one in float, which the kernels of this processor compute, with the one in
 * double. */
typedef struct lp_gradcheck_case {
    const char* name;
    int inputs;          /* 1..4 */
    int64_t shape[4][2]; /* rows, cols */
    double low, high;    /* inputs are uniform in [low, high) */
    lp_tensor (*loss)(lp_tape* t,
                      const lp_tensor* inputs); /* any shape: a fixed random projection is summed */
} lp_gradcheck_case;

typedef struct lp_gradcheck_result {
    double worst; /* largest |analytic - numeric| / max(1, |numeric|); infinite if one is NaN */
    int input;    /* where */
    int64_t row, col;
    double float_worst; /* largest |float - double| / max(1, largest |double|) of the gradients of
                           an input */
    int float_input;
} lp_gradcheck_result;

/* The cases of the op table: at least one an op. */
LP_API int lp_gradcheck_cases(const lp_gradcheck_case** cases);
/* seed: of the inputs, which are rounded to float. The status of the tape if the case cannot be
 * computed. */
LP_API lp_status lp_gradcheck_run(lp_ctx* ctx, const lp_gradcheck_case* c, uint64_t seed,
                                  lp_gradcheck_result* result);

#ifdef __cplusplus
}
#endif
#endif
