/* Optimizers: one pass over each parameter, shared out to the threads in fixed pieces. */
#include "tensor/params.h"

enum { COOKIE = 0x6f70746d, PIECE = 1 << 15 };

struct lp_optim {
    lp_params* params;
    lp_optim_def def;
    lp__arena arena, savepoint; /* what first and second, and saved, point to */
    int64_t count;              /* of parameters that own their numbers */
    void** first;  /* [count]: momentum, or the first moment; NULL where the kind has none */
    void** second; /* [count]: the second moment */
    int64_t steps;
    void** saved; /* [count, 3]: weights, first, second at the savepoint; NULL: there is none */
    int64_t saved_steps;
};

/* What every element of one step shares. */
typedef struct step {
    const lp_optim_def* def;
    const lp__kernels* kernels;
    int64_t count; /* 1 at the first step */
    double scale;  /* of the gradients: clipping */
    double adam_step, sqrt_bias2;
} step;

#define real        float
#define FN(name)    name##_f32
#define M(function) function##f
#include "tensor/optim.inc"
#undef real
#undef FN
#undef M
#define real        double
#define FN(name)    name##_f64
#define M(function) function
#include "tensor/optim.inc"
#undef real
#undef FN
#undef M

lp_optim_def lp_optim_def_default(lp_optim_kind kind) {
    return (lp_optim_def){.cookie = COOKIE,
                          .kind = kind,
                          .learning_rate = 1e-3,
                          .beta1 = 0.9,
                          .beta2 = 0.999,
                          .eps = 1e-8,
                          .weight_decay = kind == LP_ADAMW ? 0.01 : 0.0,
                          .alpha = 0.99};
}

static lp_status check(lp_ctx* ctx, const lp_optim_def* def) {
    if (!LP__REQUIRE(ctx, def->cookie == COOKIE, "begin with lp_optim_def_default"))
        return LP_INVALID;
    const lp__range ranges[] = {
        {"learning_rate", def->learning_rate, 0, 1e30},
        {"beta1", def->beta1, 0, 0.9999999999},
        {"beta2", def->beta2, 0, 0.9999999999},
        {"eps", def->eps, 0, 1e30},
        {"weight_decay", def->weight_decay, 0, 1e30},
        {"momentum", def->momentum, 0, 1e30},
        {"alpha", def->alpha, 0, 1},
        {"max_grad_norm", def->max_grad_norm, 0, 1e300},
    };
    return lp__ranges_check(ctx, ranges, sizeof ranges / sizeof *ranges);
}

static lp__node* owner(const lp_optim* optim, int64_t i) {
    return lp__node_of(lp_params_get(optim->params, i));
}

/* n numbers of the set's type, zero. */
static void* zeros(lp_optim* optim, int64_t n) {
    const size_t bytes = (size_t)n * lp__dtype_bytes(optim->params->type);
    void* block = lp__arena_alloc(&optim->arena, bytes);
    if (block) memset(block, 0, bytes);
    return block;
}

lp_status lp_optim_create(lp_params* params, const lp_optim_def* def, lp_optim** out) {
    lp_ctx* ctx = params->ctx;
    *out = NULL;
    if (!LP__REQUIRE(ctx, params->trainable, "the set is frozen")) return LP_INVALID;
    lp_status status = check(ctx, def);
    if (status != LP_OK) return status;
    lp_optim* optim = lp__calloc(ctx, 1, sizeof *optim);
    if (!optim) return LP_NOMEM;
    optim->params = params;
    optim->def = *def;
    lp__arena_init(&optim->arena, ctx, 1 << 12);
    lp__arena_init(&optim->savepoint, ctx, 1 << 12);
    optim->count = lp_params_count(params);
    optim->first = lp__calloc(ctx, (size_t)optim->count, sizeof(void*));
    optim->second = lp__calloc(ctx, (size_t)optim->count, sizeof(void*));
    bool ok = optim->first && optim->second;
    const bool adam = def->kind == LP_ADAM || def->kind == LP_ADAMW;
    for (int64_t i = 0; ok && i < optim->count; i++) {
        const int64_t n = lp__size(owner(optim, i));
        if (adam || def->momentum > 0) ok = (optim->first[i] = zeros(optim, n)) != NULL;
        if (ok && (adam || def->kind == LP_RMSPROP))
            ok = (optim->second[i] = zeros(optim, n)) != NULL;
    }
    if (!ok) {
        lp_optim_destroy(optim);
        return LP_NOMEM;
    }
    *out = optim;
    return LP_OK;
}

static void forget_savepoint(lp_optim* optim) {
    lp__arena_free(&optim->savepoint);
    lp__free(optim->params->ctx, optim->saved);
    optim->saved = NULL;
}

void lp_optim_destroy(lp_optim* optim) {
    if (!optim) return;
    lp_ctx* ctx = optim->params->ctx;
    forget_savepoint(optim);
    lp__arena_free(&optim->arena);
    lp__free(ctx, optim->first);
    lp__free(ctx, optim->second);
    lp__free(ctx, optim);
}

void lp_optim_set_learning_rate(lp_optim* optim, double learning_rate) {
    optim->def.learning_rate = learning_rate;
}

typedef struct optim_job {
    lp_ctx* ctx;
    const step* st;
    lp__node* node;
    void *first, *second;
    lp__word* operand[2]; /* by lp__side: to be packed again; NULL: none */
} optim_job;

static void run_range(const optim_job* job, int64_t from, int64_t to) {
    const lp_optim_def* def = job->st->def;
    const bool f64 = job->node->t.type == LP_F64;
    switch (def->kind) {
    case LP_SGD:
        if (f64) {
            sgd_range_f64(job->st, job->node, job->first, from, to);
        } else {
            sgd_range_f32(job->st, job->node, job->first, from, to);
        }
        break;
    case LP_RMSPROP:
        if (f64) {
            rmsprop_range_f64(job->st, job->node, job->first, job->second, from, to);
        } else {
            rmsprop_range_f32(job->st, job->node, job->first, job->second, from, to);
        }
        break;
    case LP_ADAM:
    case LP_ADAMW:
        if (f64) {
            adam_range_f64(job->st, job->node, job->first, job->second, from, to);
        } else if ((def->kind == LP_ADAM && def->weight_decay > 0) || def->learning_rate == 0) {
            adam_range_f32(job->st, job->node, job->first, job->second, from, to);
        } else {
            job->st->kernels->adam(
                to - from, (float*)job->node->t.data + from, (const float*)job->node->t.grad + from,
                (float*)job->first + from, (float*)job->second + from, (float)job->st->scale,
                def->beta1, def->beta2, (float)job->st->adam_step, (float)job->st->sqrt_bias2,
                (float)def->eps, (float)(def->learning_rate * def->weight_decay));
        }
        break;
    }
}

static void run_piece(void* user, int64_t index, int worker) {
    (void)worker;
    const optim_job* job = user;
    const size_t bytes = lp__dtype_bytes(job->node->t.type);
    const int64_t from = index * PIECE, to = LP__MIN(from + PIECE, lp__size(job->node));
    run_range(job, from, to);
    memset((char*)job->node->t.grad + (size_t)from * bytes, 0, (size_t)(to - from) * bytes);
}

/* The rows of a panel, which are packed again while they are in the cache. */
static void run_panel(void* user, int64_t index, int worker) {
    const optim_job* job = user;
    const lp__node* node = job->node;
    const lp__kernels* kernels = job->st->kernels;
    const int64_t rows = node->t.rows, cols = node->t.cols, first = index * kernels->panel;
    run_range(job, first * cols, LP__MIN(first + kernels->panel, rows) * cols);
    lp__weight_pack_panel(kernels, node->number, rows, cols, node->t.data, first,
                          lp__worker_scratch(job->ctx, worker), job->operand[LP__TRANSPOSED],
                          job->operand[LP__PLAIN]);
}

/* An operand that there is; not one with room for a smaller number format only, which is made anew
 * when it is used. */
static lp__word* operand_of(lp_ctx* ctx, const lp__node* node, int side) {
    const size_t words =
        lp__weight_words(ctx, node->number, node->t.rows, node->t.cols, side == LP__TRANSPOSED);
    return node->operand_words[side] >= words ? node->operand[side] : NULL;
}

/* One pass over the memory of a parameter: clip, step, pack. The gradient of a matrix that products
 * use is not cleared: the next backward pass writes over it, see lp__grad_raw. */
static void step_parameter(optim_job* job) {
    lp__node* node = job->node;
    const int64_t panel = job->st->kernels->panel;
    if (!lp__grad(node)) return; /* one that no gradient has reached is zero; it has its memory */
    for (int side = 0; side < 2; side++) job->operand[side] = operand_of(job->ctx, node, side);
    if (!job->operand[LP__TRANSPOSED] && !job->operand[LP__PLAIN]) {
        lp__parallel_for(job->ctx, (lp__size(node) + PIECE - 1) / PIECE, run_piece, job);
        return;
    }
    lp__parallel_for(job->ctx, (node->t.rows + panel - 1) / panel, run_panel, job);
    for (int side = 0; side < 2; side++) node->operand_valid[side] = job->operand[side] != NULL;
    node->spent = node->t.grad;
    node->t.grad = NULL;
}

/* Room for packing a panel of any parameter, on every thread. */
static bool reserve_panels(const lp_optim* optim) {
    int64_t cols = 0;
    for (int64_t i = 0; i < optim->count; i++) {
        const lp__node* node = owner(optim, i);
        if (node->operand[LP__TRANSPOSED] || node->operand[LP__PLAIN])
            cols = LP__MAX(cols, node->t.cols);
    }
    lp_ctx* ctx = optim->params->ctx;
    const int64_t words = cols * lp__ctx_kernels(ctx)->panel;
    return lp__worker_scratch_reserve(ctx, (size_t)words * sizeof(lp__word));
}

/* Names the first gradient that is not finite. */
static lp_status nonfinite(const lp_optim* optim) {
    for (int64_t i = 0; i < optim->count; i++) {
        lp_tensor x = lp_params_get(optim->params, i);
        for (int64_t row = 0; row < x->rows; row++) {
            for (int64_t col = 0; col < x->cols; col++) {
                const double g = lp_grad_at(x, row, col);
                if (!isfinite(g))
                    return lp_fail(optim->params->ctx, LP_NONFINITE,
                                   "the gradient of %s is %g at [%lld, %lld]: the step is "
                                   "refused, nothing moved; lower the "
                                   "learning rate, or look for NaN in the inputs",
                                   lp_params_name(optim->params, i), isnan(g) ? fabs(g) : g,
                                   (long long)row, (long long)col);
            }
        }
    }
    return lp_fail(optim->params->ctx, LP_NONFINITE,
                   "the gradient norm is not finite: the step is refused");
}

lp_status lp_optim_step(lp_optim* optim, double* grad_norm) {
    const double norm = lp_params_grad_norm(optim->params);
    if (grad_norm) *grad_norm = norm;
    if (!isfinite(norm)) return nonfinite(optim);
    if (!reserve_panels(optim)) return LP_NOMEM;
    const lp_optim_def* def = &optim->def;
    optim->steps++;
    const double t = (double)optim->steps;
    step st = {.def = def,
               .kernels = lp__ctx_kernels(optim->params->ctx),
               .count = optim->steps,
               .scale = 1.0};
    st.adam_step = def->learning_rate / (1.0 - pow(def->beta1, t));
    st.sqrt_bias2 = sqrt(1.0 - pow(def->beta2, t));
    if (def->max_grad_norm > 0) st.scale = fmin(1.0, def->max_grad_norm / (norm + 1e-6));
    for (int64_t i = 0; i < optim->count; i++) {
        optim_job job = {.ctx = optim->params->ctx,
                         .st = &st,
                         .node = owner(optim, i),
                         .first = optim->first[i],
                         .second = optim->second[i]};
        step_parameter(&job);
    }
    return LP_OK;
}

/* ---- savepoint ------------------------------------------------------------------------------- */

/* Weights and states of parameter i; a state that the kind does not have is NULL. */
static void parts(const lp_optim* optim, int64_t i, void* parts[3]) {
    parts[0] = owner(optim, i)->t.data;
    parts[1] = optim->first[i];
    parts[2] = optim->second[i];
}

static size_t part_bytes(const lp_optim* optim, int64_t i) {
    return (size_t)lp__size(owner(optim, i)) * lp__dtype_bytes(optim->params->type);
}

static lp_status reserve_savepoint(lp_optim* optim) {
    lp_ctx* ctx = optim->params->ctx;
    if (optim->saved) return LP_OK;
    optim->saved = lp__calloc(ctx, (size_t)(3 * optim->count), sizeof(void*));
    if (!optim->saved) return LP_NOMEM;
    for (int64_t i = 0; i < optim->count; i++) {
        void* now[3];
        parts(optim, i, now);
        for (int j = 0; j < 3; j++) {
            if (!now[j] || (optim->saved[3 * i + j] =
                                lp__arena_alloc(&optim->savepoint, part_bytes(optim, i))))
                continue;
            forget_savepoint(optim);
            return LP_NOMEM;
        }
    }
    return LP_OK;
}

enum { COPY_PIECE = 1 << 18 }; /* bytes */

typedef struct copy_job {
    char* to;
    const char* from;
    size_t bytes;
} copy_job;

static void copy_piece(void* user, int64_t index, int worker) {
    (void)worker;
    const copy_job* job = user;
    const size_t at = (size_t)index * COPY_PIECE;
    memcpy(job->to + at, job->from + at, LP__MIN(job->bytes - at, (size_t)COPY_PIECE));
}

/* Copies all parts to the savepoint, or back. */
static void copy_parts(lp_optim* optim, bool back) {
    for (int64_t i = 0; i < optim->count; i++) {
        void* now[3];
        parts(optim, i, now);
        for (int j = 0; j < 3; j++) {
            if (!now[j]) continue;
            void* saved = optim->saved[3 * i + j];
            copy_job job = {back ? now[j] : saved, back ? saved : now[j], part_bytes(optim, i)};
            lp__parallel_for(optim->params->ctx,
                             (int64_t)((job.bytes + COPY_PIECE - 1) / COPY_PIECE), copy_piece,
                             &job);
        }
    }
}

lp_status lp_optim_savepoint(lp_optim* optim) {
    lp_status status = reserve_savepoint(optim);
    if (status != LP_OK) return status;
    copy_parts(optim, false);
    optim->saved_steps = optim->steps;
    return LP_OK;
}

void lp_optim_rollback(lp_optim* optim) {
    if (!LP__REQUIRE(optim->params->ctx, optim->saved, "lp_optim_rollback needs a savepoint"))
        return;
    copy_parts(optim, true);
    optim->steps = optim->saved_steps;
    lp_params_changed(optim->params);
}
