/* The inside of a generator. */
#ifndef LP__LM_GENERATE_H
#define LP__LM_GENERATE_H

#include "lm/model.h"
#include "lm/sampler.h"
#include "lm/stop.h"
#include "tensor/tape.h"
#include "text/tokenizer.h"

enum {
    LP__GENERATE_COOKIE = 0x67656e21,
    LP__PREFILL_TOKENS = 1024, /* of prompts in one pass, unless one alone has more */
    LP__STOP_STRINGS = 16,
    LP__STOP_BYTES = 1024
};

/* A sequence in the making; lane i has slot i of the cache. */
typedef struct lp__lane {
    int64_t sequence;
    int64_t length; /* tokens drawn */
    int64_t bytes;  /* of their text */
    int32_t token;  /* the last */
    int32_t base;   /* whose prompt it continues; -1: its own */
    int32_t entry;  /* its place in the pass that runs its prompt */
    lp_rng rng;
} lp__lane;

/* A prompt that several sequences continue; base i has slot batch + i of the cache. */
typedef struct lp__base {
    int64_t pending; /* sequences that have not begun */
    int64_t lanes;   /* that continue it */
    int32_t entry;   /* its place in the pass that runs it; -1: it was run before */
} lp__base;

struct lp_generator {
    lp_ctx* ctx;
    const lp_model* model;
    lp_tape* tape;
    lp_kv* cache;       /* NULL before the first run */
    char* block;        /* all arrays of a run, see lay_out */
    size_t room;        /* its bytes */
    lp_token_list pool; /* kept sets as they came, the number of entries before those of each */
    /* the run at hand */
    const lp_weights* weights;
    const lp_generate_def* def;
    lp__sampler sampler;
    int64_t prompts, samples, n; /* n = prompts * samples */
    int64_t groups;              /* of equal prompts, with more than one sequence */
    int64_t* offsets;            /* [prompts + 1], from 0 */
    int32_t* tokens;             /* [offsets[prompts]] */
    int32_t* order;              /* [prompts]: equal prompts behind each other */
    int64_t* members; /* [prompts]: sequences of the group, at its first prompt; else 0 */
    int32_t* next;    /* [prompts]: the next equal prompt; -1: none */
    int32_t* last;    /* [prompts]: the last of the group, at its first prompt */
    int32_t* table;   /* [table_mask + 1]: first prompts by their hash; -1: free */
    uint64_t table_mask;
    int64_t* length;      /* [n]: tokens drawn */
    int64_t* kept_at;     /* [n, max_new_tokens]: places in the pool, with keep_sets; -1: all */
    int32_t* banned;      /* [banned_first]: never drawn */
    int64_t banned_later; /* banned before min_new_tokens: those, and what ends a response */
    int64_t banned_first;
    lp__stops stops;
    int32_t* stop_state; /* [batch, stops.count] */
    /* the batch at hand */
    int64_t batch;      /* lanes */
    lp__lane* lane;     /* [batch] */
    int32_t* free_lane; /* [free_lanes] */
    int64_t free_lanes;
    lp__base* base;     /* [bases] */
    int32_t* free_base; /* [free_bases] */
    int64_t bases, free_bases;
    int32_t* active; /* [active_count]: lanes */
    int64_t active_count;
    int64_t at, sample; /* the next sequence is this sample of prompt order[at] */
    int32_t shared;     /* the base of its group; -1: none yet */
    int32_t* pass_slot; /* [batch + bases]: sequences of a pass */
    int64_t* pass_offsets;
    int32_t* pass_tokens;
    int64_t pass_prompt_room; /* tokens of prompts in one pass, at most */
    float* state;      /* [batch, width]: what tokens are drawn from, if not a pass as it is */
    float* base_state; /* [bases, width]: last state of each shared prompt */
    float* logits;     /* of the active lanes, while they are drawn from */
    lp__drawn* drawn;  /* [batch] */
    /* the result */
    lp_generation* out;
    int32_t* ids; /* [n, max_new_tokens] */
    float* log_prob;
};

/* Draws all sequences. */
lp_status lp__generate_all(lp_generator* g);

#endif
