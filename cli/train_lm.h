/* What the verbs that train a language model share: prompts, rewards, the folder of the run, and
 * what is printed. */
#ifndef TRAIN_LM_H
#define TRAIN_LM_H

#include "cli.h"

/* A training run. */
typedef struct lm_run {
    lp_ctx* ctx;
    const lp_options* options; /* with model, prompt, prompts, chat, reward, output_dir, overwrite,
                                  json */
    const char* algorithm;     /* "ppo" */
    int64_t count;             /* steps */
    const char* word;          /* of contains:WORD */
    texts prompts;
    lp_model* model;
    lp_weights *policy, *reference; /* reference: NULL if none is wanted */
    lp_prompts packed;              /* of a step */
    lp_generation batch;
    lp_text text;
    double* scores;    /* [sequences of a batch] */
    run_folder folder; /* of --output_dir */
    bool begun;        /* the folder is made: what is learnt will be kept */
} lm_run;

/* Everything that can be wrong is found before training, most of it before weights are loaded:
 * reward, prompts, model, folder. sequences: of a batch; files: that final/ will have. */
lp_status lm_begin(lm_run* r, const lp_generate_def* def, int64_t sequences, bool reference,
                   const char* const* files, int file_count);
/* When the trainer is made, too: makes the folder, if one is wanted. */
lp_status lm_make_folder(lm_run* r, lp_status status);
void lm_end(lm_run* r);

/* The prompts of a step, counted from 0: `count` of them, going round. */
lp_status lm_prompts(lm_run* r, int64_t step, int64_t count);
/* The rewards of r->batch into r->scores; a run of one step prints each response. */
lp_status lm_score(lm_run* r);

/* The metrics of a step, the first of which is its number: to the folder if there is one, as JSON
 * with --json, else as a list if it is the only step. Lists behind `scalars` go to the folder only.
 */
lp_status lm_log(lm_run* r, const lp_metric* rows, int scalars, int count);
bool lm_is_single(const lm_run* r); /* one step alone, without --json */

/* Ends a run after so many whole steps: what was learnt so far is kept, also when a signal or an
 * error ended it. The exit code. */
int lm_finish(lm_run* r, lp_status status, int64_t steps,
              lp_status (*save)(void* user, const char* folder), void* user);

#endif
