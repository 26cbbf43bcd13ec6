/* What an architecture is: one row of data for each. Names and keys on both sides (Hugging Face's
 * folder, GGUF), the tensors with their shapes, and which kinds of norm, MLP and positions it has.
 * Whoever reads, writes or runs a model goes through these rows; another family of this kind is
 * another row. */
#ifndef LP__LM_ARCH_H
#define LP__LM_ARCH_H

#include "nn/transformer.h"
#include <logpi/lm.h>

/* Sizes that a shape is given by; ONE is 1. */
typedef enum lp__extent {
    LP__ONE,
    LP__WIDTH,
    LP__INTERMEDIATE,
    LP__Q_WIDTH,
    LP__KV_WIDTH,
    LP__VOCAB,
    LP__CONTEXT
} lp__extent;
int64_t lp__extent_of(const lp_model_shape* shape, lp__extent side);

/* What a model of an architecture may have or lack. */
enum {
    LP__QKV_BIAS = 1,
    LP__O_BIAS = 2,
    LP__MLP_BIAS = 4,
    LP__HEAD = 8 /* a head apart from the embedding */
};

enum {
    LP__ROTARY = 1, /* rows of heads that rotary positions turn */
    LP__CONV1D = 2, /* Hugging Face's file has it as [in, out] */
    LP__FULL = 4    /* fp32 in every GGUF file */
};

/* A tensor of a file: its names behind those of the layer, what parts it has, one after another in
 * the rows, and its columns (ONE: it is a vector). when: an option that it belongs to, or 0. */
typedef struct lp__tensor_part {
    size_t field; /* in lp__block, or in lp_weights */
    lp__extent rows;
    const char* own; /* name of the parameter; NULL: that of Hugging Face's file */
} lp__tensor_part;

enum { LP__PARTS = 3 };

typedef struct lp__tensor_row {
    const char *hf, *gguf;
    lp__extent cols;
    unsigned when, flags;
    int parts;
    lp__tensor_part part[LP__PARTS];
} lp__tensor_row;

/* Sizes in config.json and in GGUF's metadata. */
typedef enum lp__size_key {
    LP__KEY_LAYERS,
    LP__KEY_WIDTH,
    LP__KEY_HEADS,
    LP__KEY_KV_HEADS,
    LP__KEY_HEAD_DIM,
    LP__KEY_INTERMEDIATE,
    LP__KEY_CONTEXT,
    LP__KEY_VOCAB,
    LP__SIZE_KEYS
} lp__size_key;
int64_t* lp__size_of(lp_model_shape* shape, lp__size_key key);

/* A setting of config.json that changes what a model computes: what it must be, if it is there. */
typedef enum lp__rule_kind {
    LP__MUST_BE_TRUE,
    LP__MUST_BE_FALSE,
    LP__MUST_BE_NULL,
    LP__MUST_BE_ONE,
    LP__MUST_BE_TEXT, /* one of `values`; a list: each of them */
    LP__MUST_COVER    /* a number of tokens, not below the context; null is none */
} lp__rule_kind;

typedef struct lp__rule {
    const char* key;
    lp__rule_kind kind;
    const char* values[3];
} lp__rule;

typedef struct lp__arch {
    const char* name;           /* general.architecture, and the prefix of keys */
    const char* title;          /* for messages */
    const char* model_types[4]; /* of config.json; the first is written */
    const char* class_name;     /* of "architectures" */
    const char* const* hf_size; /* [LP__SIZE_KEYS]; NULL: the family has no such key */
    const char *hf_eps, *gguf_eps;
    double default_eps;
    int64_t default_context, default_intermediate; /* the latter in widths; 0: none */
    const char* hf_activation;                     /* the key; its value when written: */
    const char* activation;
    bool default_tied;
    const char* hf_qkv_bias; /* option of config.json for biases of q, k, v; NULL: see options */
    const char* hf_o_bias;   /* the same of o */
    const char* hf_mlp_bias;
    unsigned options; /* that every model of the family has */
    lp__norm_kind norm;
    lp__mlp_kind mlp;
    bool rotary;           /* positions: rotary, or else learned */
    bool gguf_pairs;       /* GGUF has the rows of a rotary head pair by pair */
    const char* hf_prefix; /* of all tensors but the head; a file may lack it */
    const char* hf_layers; /* "model.layers." */
    const lp__tensor_row *rows, *layer_rows;
    int row_count, layer_row_count;
    const lp__rule* rules;
    int rule_count;
    const char* ignored[3]; /* ends of names of tensors that are no weights */
} lp__arch;

/* By either name; NULL: not known. */
const lp__arch* lp__arch_of_gguf(const char* name);
const lp__arch* lp__arch_of_hf(const char* model_type);
/* "gpt2, llama, qwen2" */
const char* lp__arch_names(void);

/* ---- the tensors of a model, one by one ------------------------------------------------------ */

enum { LP__NAME_BYTES = 128 };

typedef struct lp__slot {
    const lp__tensor_row* row;
    int64_t layer; /* -1: none */
    char hf[LP__NAME_BYTES], gguf[LP__NAME_BYTES];
    bool vector;
    int64_t rows, cols;           /* of the whole; a vector is [1, n] */
    int64_t part_rows[LP__PARTS]; /* of the parts; a vector's are its numbers */
    /* private */
    const struct lp_model* model;
    int next;
} lp__slot;

/* Walks through all tensors: start with lp__slots(model), go on while lp__slot_next. */
lp__slot lp__slots(const struct lp_model* model);
bool lp__slot_next(lp__slot* slot);
/* The name of a part as a parameter. */
void lp__slot_own(const lp__slot* slot, int part, char name[LP__NAME_BYTES]);
/* Where the weights keep it. */
lp_tensor* lp__slot_field(const lp__slot* slot, struct lp_weights* weights, int part);

#endif
