/* Compares a model with transformers: logits, the gradient of every parameter, a greedy
 * continuation. usage: compare_hf MODEL hf_reference.safetensors (written by hf_logits.py
 * live or by hf_models.py); exit code 1 if they differ.
 *
 * Tolerances: logits 2e-4 of the largest logit; each gradient 1e-3 of the largest entry of the
 * tensor; tokens equal. */
#include <jansson.h>
#include <logpi/lm.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const double LOGIT_TOLERANCE = 2e-4, GRADIENT_TOLERANCE = 1e-3;

/* A safetensors file that our own script wrote: its header, and its data in memory. */
typedef struct reference {
    json_t* header;
    char* data;
} reference;

static _Noreturn void die(const char* message) {
    fprintf(stderr, "compare_hf: %s\n", message);
    exit(2);
}

static reference read_reference(const char* path) {
    FILE* f = fopen(path, "rb");
    uint64_t length;
    if (!f || fread(&length, 8, 1, f) != 1) die("cannot read the reference");
    char* header = malloc(length);
    if (!header || fread(header, 1, length, f) != length) die("the header is cut off");
    reference r = {.header = json_loadb(header, length, 0, NULL)};
    free(header);
    const long start = ftell(f);
    fseek(f, 0, SEEK_END);
    const size_t bytes = (size_t)(ftell(f) - start);
    fseek(f, start, SEEK_SET);
    r.data = malloc(bytes);
    if (!r.header || !r.data || fread(r.data, 1, bytes, f) != bytes)
        die("the reference is damaged");
    fclose(f);
    return r;
}

static const void* tensor(const reference* r, const char* name, int64_t* count) {
    json_t* entry = json_object_get(r->header, name);
    if (!entry) return NULL;
    *count = 1;
    size_t i;
    json_t* d;
    json_array_foreach(json_object_get(entry, "shape"), i, d)* count *= json_integer_value(d);
    return r->data + json_integer_value(json_array_get(json_object_get(entry, "data_offsets"), 0));
}

static int32_t* ids(const reference* r, const char* name, int64_t* count) {
    const int64_t* from = tensor(r, name, count);
    int32_t* to = malloc((size_t)*count * sizeof *to);
    for (int64_t i = 0; i < *count; i++) to[i] = (int32_t)from[i];
    return to;
}

/* Largest |a - b| relative to the largest |b|, or to floor if that is larger. */
static double difference(int64_t n, const float* a, const float* b, double floor) {
    double worst = 0, largest = floor;
    for (int64_t i = 0; i < n; i++) {
        const double d = fabs((double)a[i] - (double)b[i]);
        worst = d > worst || isnan(d) ? d : worst;
        largest = fmax(largest, fabs((double)b[i]));
    }
    return worst / largest;
}

static int report(const char* what, double got, double allowed) {
    const int bad = !(got <= allowed);
    printf("%-28s %.2e (allowed %.0e)%s\n", what, got, allowed, bad ? "  WRONG" : "");
    return bad;
}

/* The largest entry of all gradients. */
static double largest_gradient(lp_params* params, const reference* r) {
    double largest = 0;
    for (int64_t i = 0; i < lp_params_count(params); i++) {
        char key[128];
        int64_t n = 0;
        snprintf(key, sizeof key, "grad.%s", lp_params_name(params, i));
        const float* g = tensor(r, key, &n);
        for (int64_t j = 0; g && j < n; j++) largest = fmax(largest, fabs((double)g[j]));
    }
    return largest;
}

/* A gradient that is 0 but for rounding (that of a bias of keys without rotary positions) is held
 * against the others. */
static int compare_gradients(lp_params* params, const reference* r) {
    double worst = 0;
    const double floor = 1e-4 * largest_gradient(params, r);
    int bad = 0;
    const char* name = "";
    for (int64_t i = 0; i < lp_params_count(params); i++) {
        char key[128];
        int64_t n;
        snprintf(key, sizeof key, "grad.%s", lp_params_name(params, i));
        const float* want = tensor(r, key, &n);
        lp_tensor p = lp_params_get(params, i);
        if (!want || n != p->rows * p->cols) die("a gradient is missing in the reference");
        const double d = difference(n, lp_grad_f32(p), want, floor);
        if (!(d <= worst)) name = lp_params_name(params, i);
        worst = fmax(worst, isnan(d) ? (double)INFINITY : d);
        bad += !(d <= GRADIENT_TOLERANCE);
    }
    printf("%lld gradients, the worst is that of %s\n", (long long)lp_params_count(params), name);
    return report("gradients", worst, GRADIENT_TOLERANCE) || bad;
}

int main(int argc, char** argv) {
    if (argc != 3) die("usage: compare_hf MODEL hf_reference.safetensors");
    const reference r = read_reference(argv[2]);
    lp_ctx* ctx = lp_ctx_create(NULL, NULL, 0);
    lp_model* model;
    lp_weights* weights;
    if (lp_model_open(ctx, argv[1], &model) || lp_model_load_weights(model, true, &weights))
        die(lp_error(ctx));
    int64_t n, n_logits, n_prompt, n_greedy;
    int32_t *text = ids(&r, "token_ids", &n), *prompt = ids(&r, "prompt_ids", &n_prompt);
    int32_t* greedy = ids(&r, "greedy_ids", &n_greedy);

    /* loss = -mean log p(token t+1) */
    lp_tape* t = lp_tape_create(ctx, LP_F32);
    const int64_t offsets[] = {0, n};
    const lp_batch batch = {.sequences = 1, .offsets = offsets, .tokens = text};
    lp_tensor hidden = lp_model_hidden(t, model, weights, &batch);
    lp_tensor logits = lp_model_logits(t, weights, hidden);
    int32_t* rows = malloc((size_t)n * sizeof *rows);
    for (int64_t i = 0; i < n; i++) rows[i] = (int32_t)i;
    lp_tensor states = lp_rows(t, hidden, lp_const_i32(t, n - 1, 1, rows));
    lp_tensor target = lp_const_i32(t, n - 1, 1, text + 1);
    lp_tensor loss =
        lp_neg(t, lp_mean(t, lp_model_log_prob(t, weights, states, target, 1.0, NULL)));
    if (lp_backward(t, loss) != LP_OK) die(lp_error(ctx));
    lp_params_fold(lp_weights_params(weights));

    printf("%lld tokens, %s, loss %.6f\n", (long long)n, lp_isa_name(lp_ctx_isa(ctx)),
           lp_item(loss));
    int bad = report(
        "logits",
        difference(logits->rows * logits->cols, lp_f32(logits), tensor(&r, "logits", &n_logits), 0),
        LOGIT_TOLERANCE);
    bad += compare_gradients(lp_weights_params(weights), &r);

    lp_generate_def def = lp_generate_def_default();
    def.max_new_tokens = def.min_new_tokens = n_greedy; /* an end of text is not an end here */
    def.temperature = 0;
    const int64_t prompt_offsets[] = {0, n_prompt};
    lp_generation g = {0};
    if (lp_generate(model, weights, &def, 1, prompt_offsets, prompt, &g)) die(lp_error(ctx));
    int64_t same = 0;
    while (same < n_greedy && g.responses.ids[same] == greedy[same]) same++;
    printf("greedy continuation: %lld of %lld tokens equal%s\n", (long long)same,
           (long long)n_greedy, same < n_greedy ? "  WRONG" : "");
    bad += same < n_greedy;
    lp_ctx_destroy(ctx);
    json_decref(r.header);
    free(r.data);
    free(text), free(prompt), free(greedy), free(rows);
    return bad ? 1 : 0;
}
