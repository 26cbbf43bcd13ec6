"""Mutants: each row of the table is a mistake that a programmer could make. It is put into a copy of the sources, the
tests that should notice are built and run, and at least one of them must fail, by an assertion in one of its cases: a
mutant that does not compile, crashes or hangs proves nothing. A mutant that survives, or whose text is not found exactly
once, is a failure of this program. A row may end with a number: so many cases of a test must fail.

    run.py [NAME ...]     only these"""
import os
import re
import shutil
import subprocess
import sys
import tempfile

ROOT = os.path.realpath(os.path.join(os.path.dirname(__file__), "..", ".."))
PPO, LOSS, PASS, TRAIN = "src/pg/ppo.c", "src/pg/loss.c", "src/train/pass.c", "src/train/ppo_step.c"
GRPO, GRPO_STEP = "src/pg/grpo.c", "src/train/grpo_step.c"
KEPT, LOGP = "src/tensor/kept.c", "src/train/logp.c"
REDUCE = "src/tensor/reduce.inc"
ENVS, CARTPOLE = "src/env/envs.c", "src/env/cartpole.c"
REGRESSION = "src/pg/regression.c"
SAMPLER, BATCH = "src/lm/sampler.c", "src/lm/generate_batch.c"
DIST, OPTIM, HEAD = "src/pg/dist.c", "src/tensor/optim.c", "src/tensor/ops_head.c"
ATTEND, ATTEND_BACK, SOFTMAX = "src/tensor/attend.c", "src/tensor/attend_backward.c", "src/kernels/attention.inc"
KV, PRODUCT = "src/tensor/kv.c", "src/kernels/product.c"
ROWS, GATES, BLOCK_BACK = "src/kernels/transformer.inc", "src/kernels/gates.inc", "src/nn/block_backward.c"

# name, file, the text that is right (blanks and line breaks do not matter), the mistake, tests that should notice, and, if
# one case is not enough, how many
MUTANTS = [
    ("weights are rounded to nearest", PRODUCT,
     "format->store_weights(cols, (uint32_t)((first + r) * cols), w + (first + r) * cols, scratch + r * ld);",
     "format->store(cols, w + (first + r) * cols, scratch + r * ld);", ["kernels/product"]),
    ("one threshold for all weights", "src/kernels/words.inc", "weyl = vi_add(weyl, next)", "weyl = vi_add(weyl, vi_sub(next, next))",
     ["kernels/words"]),
    ("a block adds to a gradient that a step has used up", BLOCK_BACK, ".accumulate = !fresh", ".accumulate = true",
     ["train/trl_steps"]),
    ("the head adds to a gradient that a step has used up", HEAD, "!s->fresh || step > 0", "true", ["train/trl_steps"]),
    ("only the last rows of a head count", HEAD, "!s->fresh || step > 0", "!s->fresh", ["tensor/head"]),
    ("sign of the policy loss", LOSS,
     "lp_neg(t, lp_const_f32(t, n, 1, def->advantage))", "lp_const_f32(t, n, 1, def->advantage)",
     ["pg/trl", "pg/enumeration"]),
    ("sign of the KL penalty", PPO, "(float)(-kl_coef * (double)kl[i])", "(float)(kl_coef * (double)kl[i])",
     ["pg/trl", "pg/enumeration"]),
    ("score at the first token", PPO, "rewards[offsets[s + 1] - 1] += ", "rewards[offsets[s]] += ",
     ["pg/trl"]),
    ("log-probabilities shifted by one token", PASS, "(int32_t)(j == 0 ? last : end - r + j)",
     "(int32_t)(j <= 1 ? last : end - r + j - 1)", ["train/trl_steps"]),
    ("values shifted by one token", PPO, "gamma * next_value - (double)values[i]",
     "gamma * (double)values[i] - next_value", ["pg/trl", "pg/enumeration"]),
    ("missing mask: a prompt token counts in the mean", TRAIN,
     "normaliser += (double)(b->response_offsets[list[i] + 1] - b->response_offsets[list[i]]);",
     "normaliser += 1.0 + (double)(b->response_offsets[list[i] + 1] - b->response_offsets[list[i]]);",
     ["train/trl_steps"]),
    ("missing mask: advantages run on into the next response", PPO,
     "double advantage = 0, next_value = 0;",
     "static double advantage = 0, next_value = 0;", ["pg/trl"]),
    ("missing detach: the advantage follows the policy", LOSS,
     "lp_tensor minus_advantage = lp_neg(t, lp_const_f32(t, n, 1, def->advantage));",
     "lp_tensor minus_advantage = lp_add(t, lp_neg(t, lp_const_f32(t, n, 1, def->advantage)),"
     " lp_sub(t, log_prob, lp_detach(t, log_prob)));", ["pg/trl"]),
    ("missing detach: the clip range follows the value", LOSS,
     "lp_tensor old_value = lp_const_f32(t, n, 1, def->old_value);", "lp_tensor old_value = value;", ["pg/trl"]),
    ("ddof 0 in whitening", PPO, "sqrt(square / (double)(n - 1) + 1e-8)", "sqrt(square / (double)n + 1e-8)",
     ["pg/trl"]),
    ("ddof 0 in the variances", PPO, "s->square / (double)(s->n - 1)", "s->square / (double)s->n",
     ["train/trl_steps"]),
    ("the value loss without its half", PPO, ".vf_coef = 0.5 * def->vf_coef", ".vf_coef = def->vf_coef",
     ["pg/trl"]),
    ("the smaller of the two policy losses", LOSS,
     "lp_maximum(t, lp_mul(t, minus_advantage, ratio)", "lp_minimum(t, lp_mul(t, minus_advantage, ratio)",
     ["pg/trl"]),
    ("a mean over the micro-batch", TRAIN, ".normaliser = mini->normaliser,",
     ".normaliser = 0 * mini->normaliser + (double)part->rows,",
     ["train/ppo"]),
    ("the reference follows the policy", TRAIN, "status = score_pass(ppo, batch);",
     "ppo->reference = ppo->policy;\n    status = score_pass(ppo, batch);", ["train/trl_steps"]),
    ("a tied gradient is lost", "src/tensor/params.c", "axpy(cols, 1.0f, p->d + i * cols, grad + p->row[i] * cols)",
     "axpy(cols, 0.0f, p->d + i * cols, grad + p->row[i] * cols)", ["train/trl_steps", "lm/model"]),
    ("Adam without bias correction", "src/tensor/optim.c", "def->learning_rate / (1.0 - pow(def->beta1, t))",
     "def->learning_rate", ["tensor/optim"]),
    ("softmax backward without its mean", "src/tensor/reduce.inc", "p[j] * (real)((double)dy[j] - sum)",
     "p[j] * (real)((double)dy[j])", ["tensor/gradcheck"]),
    ("RMSNorm backward without its projection", "src/tensor/transformer.inc",
     "dx[i * n + j] += a * w[j] * dy[j] - b * x[j];", "dx[i * n + j] += a * w[j] * dy[j] - 0 * b;", ["tensor/gradcheck"]),
    ("attention backward blind to its own token", ATTEND_BACK,
     "first = t->span->past + t->i + r + 1,", "first = LP__MAX(t->span->past + t->i + r, (int64_t)1),",
     ["tensor/gradcheck"]),
    ("the closed-form gradient 1 % too large", "src/pg/softmax_policy.c",
     "theta[i * k + j] += step * (x[i]", "theta[i * k + j] += 1.01 * step * (x[i]", ["pg/rungs"]),
    # the lessons check themselves: each case is a lesson
    ("the closed-form gradient of log p 1 % too large", "src/pg/softmax_policy.c",
     "grad[i * k + j] = x[i] * (", "grad[i * k + j] = 1.01 * x[i] * (", ["cli/lesson_checks"], 3),
    ("probabilities that do not add up to 1", "src/pg/softmax_policy.c", "p[j] /= sum;", "p[j] /= 1.01 * sum;",
     ["cli/lesson_checks"], 3),
    ("the policy's step 1 % too long", "src/pg/softmax_policy.c", "step = eta * advantage;",
     "step = 1.01 * eta * advantage;", ["cli/lesson_checks"], 2),
    ("a check that cannot fail", "cli/lessons/report.c", "return apart <= c->bound;",
     "return apart <= c->bound || apart > 0;", ["cli/lesson_checks"]),
    ("a NaN that hides behind a number", "cli/lessons/report.c", "i < n && !isnan(left[at] - right[at]);", "i < n;",
     ["cli/lesson_checks"]),
    ("top_p is not applied", SAMPLER, "if (by_sum) n = lp__select(", "if (by_sum) (void)lp__select(",
     ["lm/model", "lm/sampler"]),
    ("equals beyond top_k are kept", "src/lm/select.c", "(key == last && above >= limit)", "(key == last && above >= limit + 1)",
     ["lm/sampler"]),
    ("min_p is a share of the sum", SAMPLER, "(double)e[i] < s->min_p", "(double)e[i] < s->min_p * total", ["lm/sampler"]),
    ("a kept set is not told", SAMPLER, "if (n < s->vocab) drawn.kept =", "if (n < 0) drawn.kept =", ["lm/exact", "lm/sampler"]),
    ("a set of nearly all is listed", KEPT, "if (n <= vocab / 2) {", "if (n <= vocab) {", ["lm/exact", "lm/sampler", "train/logp"]),
    ("what is left out of a set is gathered", KEPT, "memcpy(x + from - i, z + from,", "memcpy(x + from - i, z + from - (i > 0),",
     ["tensor/head", "lm/exact"]),
    ("what is left out of a set gets probability", KEPT, "if (i < n) z[to] = 0;", "", ["tensor/head", "tensor/gradcheck"]),
    ("a set without its target is accepted", KEPT, "return found == listed;", "return true;", ["tensor/head", "train/logp"]),
    ("the reference in double takes all tokens", HEAD, "z[j] = told == listed ? 0 : -(double)INFINITY;", "z[j] = 0;",
     ["tensor/gradcheck"]),
    ("sampling divides by the temperature, learning multiplies", SAMPLER,
     "kernels->scale(s->vocab, (float)(1.0 / s->temperature), z);",
     "for (int64_t i = 0; i < s->vocab; i++) z[i] /= (float)s->temperature;", ["lm/exact", "lm/sampler"]),
    ("a draw looks one block too far", SAMPLER, "while (b + 1 < blocks && !(sum + sums[b] > target))",
     "while (b + 1 < blocks && !(sum > target))", ["lm/sampler"]),
    ("samples of a prompt share a random stream", BATCH, "((uint64_t)g->sample << 32)", "0 * (uint64_t)g->sample",
     ["lm/batching"]),
    ("a sample goes on from the state of another prompt", BATCH, "g->base_state + lane->base * width",
     "g->base_state + 0 * lane->base * width", ["lm/batching"]),
    ("a token counts as one byte of text", BATCH, "lane->bytes += (int64_t)n;", "lane->bytes += n > 0;", ["lm/batching"]),
    ("min_new_tokens lets a response end", BATCH, "early ? g->banned_later : g->banned_first",
     "early ? g->banned_first : g->banned_first", ["lm/batching"]),
    ("a stop string ends a response before min_new_tokens", BATCH,
     "begin < 0 || lane->length < g->def->min_new_tokens", "begin < 0", ["lm/batching"]),
    ("a stop string begins where the last of several does", "src/lm/stop.c", "begin < first", "begin > first",
     ["lm/stop"]),
    ("the adaptive KL turned round", PPO, "coef * (1.0 + error * n / horizon)", "coef * (1.0 - error * n / horizon)",
     ["pg/trl"]),
    # the losses
    ("KL of the reference to the policy", PPO, "log_prob[i] - ref_log_prob[i];", "ref_log_prob[i] - log_prob[i];",
     ["pg/trl"]),
    ("GAE without lambda", PPO, "gamma * lambda * advantage", "gamma * (lambda > 0 ? 1.0 : 0.0) * advantage",
     ["pg/trl"]),
    ("returns without the values", PPO, "(float)(advantage + (double)values[i])", "(float)advantage", ["pg/trl"]),
    ("no lower end of the clip range", LOSS, "lp_clamp(t, ratio, 1.0 - def->clip_range,", "lp_clamp(t, ratio, 0.0,",
     ["pg/trl"]),
    ("no upper end of the clip range", LOSS, "1.0 + high);", "1e9 + 0 * high);", ["pg/trl"]),
    ("the smaller of the two value losses", LOSS, "lp_maximum(t, plain, lp_square", "lp_minimum(t, plain, lp_square",
     ["pg/trl"]),
    ("missing detach: the old log-probability is the new one", LOSS,
     "lp_const_f32(t, log_prob->rows, 1, def->old_log_prob)", "(def ? log_prob : NULL)",
     ["pg/trl"]),
    ("missing detach: the returns follow the value", LOSS,
     "lp_tensor returns = lp_const_f32(t, n, 1, def->returns);",
     "lp_tensor returns = lp_add(t, lp_const_f32(t, n, 1, def->returns), lp_sub(t, value, lp_detach(t, value)));",
     ["pg/trl"]),
    ("too much detached: the weights of a divergence", REDUCE, "dy[i] * p * (lp[j] - lq[j] + (real)1)",
     "dy[i] * p * ((real)1 + 0 * lq[j])", ["tensor/gradcheck"]),
    ("a divergence turned round", DIST, "lp_row_kl(t, p.log_p, q.log_p)", "lp_row_kl(t, q.log_p, p.log_p)", ["pg/rungs"]),
    ("an outcome ruled out makes an entropy of NaN", REDUCE, "if (p != 0) sum -= ", "sum -= ", ["pg/rungs"]),
    ("an outcome ruled out makes a divergence of NaN", REDUCE, "if (p != 0) sum += ", "sum += ", ["pg/rungs"]),
    ("the Gaussian density without its width", DIST, "lp_scale(t, lp_square(t, z), 0.5), pi.log_std);",
     "lp_scale(t, lp_square(t, z), 0.5), lp_scale(t, pi.log_std, 0.0));", ["pg/rungs"]),
    ("ddof 0 in the running moments", PPO, "sqrt(sum / (total - 1.0))", "sqrt(sum / total)", ["pg/trl"]),
    # the supervised twins
    ("softmax regression 1 % too steep", REGRESSION, "(j == y[i] ? p - 1.0 : p) / (double)n",
     "1.01 * (j == y[i] ? p - 1.0 : p) / (double)n", ["pg/regression"]),
    ("softmax regression climbs its loss", REGRESSION, "theta[i] -= eta * grad[i]", "theta[i] += eta * grad[i]",
     ["pg/regression"]),
    ("logistic regression climbs its loss", REGRESSION, "theta[l] -= eta * grad[l]", "theta[l] += eta * grad[l]",
     ["pg/regression"]),
    ("logistic regression learns the other label", REGRESSION, "(y[i] ? 1.0 : 0.0)", "(y[i] ? 0.0 : 1.0)",
     ["pg/regression"]),
    ("a logistic loss that overflows", REGRESSION, "fmax(z, 0.0) + log1p(exp(-fabs(z)))", "log1p(exp(z))",
     ["pg/regression"]),
    # GRPO
    ("advantages without the mean of their group", GRPO, "equal ? 0.0 : r[j] - mean", "equal ? 0.0 : r[j]", ["pg/trl_grpo"]),
    ("rounding of equal rewards becomes a reward", GRPO, "const bool equal = all_equal(size, r);",
     "const bool equal = all_equal(size, r) && size == 0;",
     ["pg/trl_grpo"]),
    ("the batch's deviation for each group", GRPO, "std = scale == LP_SCALE_BATCH ? of_all", "std = scale != LP_SCALE_GROUP ? of_all",
     ["pg/trl_grpo"]),
    ("k3 turned round", GRPO, "lp_shift(t, lp_sub(t, lp_exp(t, x), x), -1.0)", "lp_shift(t, lp_add(t, lp_exp(t, lp_neg(t, x)), x), -1.0)",
     ["pg/trl_grpo"]),
    ("the KL without its ratio", LOSS, "def->kl_times_ratio ? lp_mul(t, k3, ratio_of(t, log_prob, def)) : k3", "k3", ["pg/trl_grpo"]),
    ("the lower clip range on both sides", LOSS, "def->clip_range_high > 0 ? def->clip_range_high : def->clip_range",
     "def->clip_range", ["pg/trl_grpo"]),
    ("responses of one length", GRPO, "1.0 / (s_all * (double)(offsets[s + 1] - offsets[s]))", "1.0 / all", ["pg/trl_grpo"]),
    ("local batches of one size", GRPO, "weight = (double)local / (s_all * tokens);", "weight = 1.0 / all + 0 * tokens;", ["pg/trl_grpo"]),
    ("a schedule that is one update late", GRPO_STEP, "learning_rate(g, g->updates + iteration)",
     "learning_rate(g, g->updates + LP__MAX(iteration - 1, 0))", ["train/trl_grpo_steps"]),
    ("old log-probabilities of each iteration", GRPO_STEP, "if (u->first) remember(", "if (u->first || !u->sampled) remember(",
     ["train/trl_grpo_steps"]),
    ("the first of several updates is not undone", GRPO_STEP, "if (several && i > 0) lp_optim_rollback(g->optim);", "",
     ["train/grpo"]),
    ("no temperature in the log-probabilities", LOGP, "return logp == LP_LOGP_RAW || d->temperature == 0 ? 1.0 : d->temperature;",
     "return d->temperature == 0 || logp >= 0 ? 1.0 : d->temperature;", ["train/grpo", "train/trl_grpo_steps", "train/logp"]),
    ("the raw convention divides by the temperature", LOGP, "logp == LP_LOGP_RAW || d->temperature == 0",
     "(logp == LP_LOGP_RAW && d->top_k < 0) || d->temperature == 0", ["train/logp"]),
    ("no log pi at temperature 0", LOGP, "logp == LP_LOGP_RAW || d->temperature == 0", "logp == LP_LOGP_RAW", ["train/logp"]),
    ("tempered by a temperature of 0", LOGP, "logp == LP_LOGP_TEMPERED && d->temperature == 0", "logp == LP_LOGP_TEMPERED && d->temperature < 0",
     ["train/logp"]),
    ("PPO generates without sets", "src/train/ppo.c", "def.keep_sets |= lp__logp_needs_sets(ppo->def.logp, &def);", "", ["train/logp"]),
    ("PPO learns from the whole vocabulary", "src/train/ppo.c", "ppo->pass.sets = def->logp == LP_LOGP_SAMPLED;", "", ["train/logp"]),
    ("GRPO learns from the whole vocabulary", "src/train/grpo.c", "grpo->pass.sets = def->logp == LP_LOGP_SAMPLED;", "", ["train/logp"]),
    ("every convention uses the sets", "src/train/grpo.c", "grpo->pass.sets = def->logp == LP_LOGP_SAMPLED;",
     "grpo->pass.sets = true;", ["train/logp"]),
    ("sets of the batch's first sequences", PASS, "const int64_t *from = b->kept_offsets + first,",
     "const int64_t *from = b->kept_offsets + (first > row ? row : first),", ["train/logp"]),
    ("compares with what was not sampled from", LOGP, "(logp == LP_LOGP_TEMPERED || !divided)", "(logp == LP_LOGP_TEMPERED || divided || !divided)",
     ["train/logp"]),
    ("sets are not checked", LOGP, "if (set_ok(b, i, vocab)) continue;", "if (set_ok(b, i, vocab) || i >= 0) continue;",
     ["train/logp"]),
    ("log pi without its sets", LOGP, "if (!b->kept_offsets && lp__logp_needs_sets(logp, d))",
     "if (!b->kept_offsets && d->top_k < 0)", ["train/logp"]),
    # the trainer
    ("targets shifted by one token", PASS, "part->target[row + j] = response[j];",
     "part->target[row + j] = response[j > 0 ? j - 1 : 0];", ["train/trl_steps"]),
    ("the policy scores itself as reference", TRAIN, "lp__part_forward(pass, ppo->reference, part, LP__ASK_LOG_PROB)",
     "lp__part_forward(pass, ppo->policy, part, LP__ASK_LOG_PROB)", ["train/trl_steps"]),
    ("advantages not whitened", TRAIN, "    lp_whiten(n, r->advantage, true);\n", "", ["train/trl_steps"]),
    ("values clipped round the returns", TRAIN, ".old_value = lp__part_gather(pass, part, r->value)",
     ".old_value = lp__part_gather(pass, part, r->returns)", ["train/trl_steps"]),
    ("a step above the ratio threshold keeps its gradient", TRAIN,
     "            lp_params_zero_grad(lp_weights_params(ppo->policy));\n            counted", "            counted",
     ["train/trl_steps"]),
    ("every epoch in the order of the first", TRAIN, "permutations + epoch * b->sequences", "permutations + 0 * epoch",
     ["train/trl_steps"]),
    ("a reward of NaN is accepted", TRAIN, "if (!isfinite(scores[s]))", "if (!isfinite(scores[s]) && s < 0)",
     ["train/ppo"]),
    # text
    ("a padded embedding ends a run", "src/text/tokenizer.c", "if (skip_unknown && ids[i] >= t->size) continue;",
     "if (skip_unknown && ids[i] > 1 << 30) continue;", ["text/tokenizer"]),
    # tensors
    ("gradients are not cleared after a step", OPTIM,
     "memset((char*)job->node->t.grad + (size_t)from * bytes, 0, (size_t)(to - from) * bytes);", "(void)bytes;",
     ["tensor/optim"]),
    ("packed weights outlive a step", OPTIM,
     "lp__worker_scratch(job->ctx, worker), job->operand[LP__TRANSPOSED], job->operand[LP__PLAIN]);",
     "lp__worker_scratch(job->ctx, worker), NULL, job->operand[LP__PLAIN]);", ["tensor/packing", "train/trl_steps"]),
    ("packed weights outlive a rollback", OPTIM, "    lp_params_changed(optim->params);\n}", "}", ["tensor/optim"]),
    ("a rollback keeps the count of steps", OPTIM, "    optim->steps = optim->saved_steps;\n", "", ["tensor/optim"]),
    ("a refused step keeps the updates before", TRAIN, "    lp_optim_rollback(ppo->optim);\n", "",
     ["train/failures"]),
    ("a stale batch does not show", TRAIN, "m.ratio_max_dev = sampling_dev(ppo, batch);", "sampling_dev(ppo, batch);",
     ["train/ppo"]),
    ("a gradient of NaN moves the weights", OPTIM, "if (!isfinite(norm)) return", "if (!isfinite(norm) && norm < 0) return",
     ["tensor/optim"]),
    ("the head forgets the temperature backward", HEAD,
     "(double)((const float*)node->t.grad)[row] / s->temperature;",
     "(double)((const float*)node->t.grad)[row] * (s->temperature > 0 ? 1.0 : 0.0);", ["tensor/ops"]),
    ("sequences of a batch see each other", ATTEND,
     "put_rows(job, &v, g, span->past, span->first, span->count);\n}",
     "put_rows(job, &v, g, span->past, 0 * span->first, span->count);\n}", ["tensor/gradcheck"]),
    ("attention sees the future", ATTEND, "const int64_t n = first + q->stepping * i;",
     "const int64_t n = most + 0 * i;", ["tensor/gradcheck"]),
    ("a broadcast gradient is not summed", "src/tensor/elementwise.inc", "if (dbs) dbs[bt] += (DB);",
     "if (dbs) dbs[bt] = (DB);", ["tensor/gradcheck"]),
    # words and products
    ("bf16 is cut off, not rounded", "src/kernels/simd_scalar.h", "(bits + 0x7fff + (bits >> 16 & 1)) >> 16", "bits >> 16",
     ["kernels/words"]),
    ("ties of bf16 go up", "src/kernels/simd_avx2.h", "vi_add(vi_set1(0x7fff), odd)",
     "vi_add(vi_set1(0x8000), vi_and(odd, vi_set1(0)))", ["kernels/words"]),
    ("a NaN becomes infinite in bf16", "src/kernels/simd_avx512.h", "_mm512_mask_blend_epi32(vf_unordered(x), rounded, nan)",
     "_mm512_mask_blend_epi32(vf_unordered(x), rounded, vi_and(nan, rounded))", ["kernels/words"]),
    ("half a word that is left over is not cleared", "src/kernels/words.inc",
     "vh_store_first(y + i, vf_load_first(x + i, rest), rest);\n    if (n % 2) y[n] = 0;",
     "vh_store_first(y + i, vf_load_first(x + i, rest), rest);", ["kernels/words"]),
    ("a row alone begins at zero", "src/kernels/gemm.inc", "if (accumulate) {", "if (accumulate && rows > 1) {", ["kernels/tile"]),
    ("bf16 learns with the weights of the first step", OPTIM, "node->operand_words[side] >= words ? node->operand[side] : NULL",
     "node->operand_words[side] >= words && node->number == LP__F32 ? node->operand[side] : NULL", ["lm/precision"]),
    ("a step of k has one row twice", PRODUCT, "r + 1 < n ? scratch + (r + 1) * ld : NULL", "r + 1 < n ? scratch + r * ld : NULL",
     ["kernels/product"]),
    ("a step without rows is some row", PRODUCT, "first < 0 ? NULL : job->rows + first * job->ld",
     "job->rows + (first < 0 ? 0 : first) * job->ld", ["kernels/product"]),
    ("the last term is the sum", PRODUCT, "t->a + r / tile_rows * t->words * tile_rows, b, panel, c, ldc, accumulate || i > 0",
     "t->a + r / tile_rows * t->words * tile_rows, b, panel, c, ldc, accumulate", ["kernels/product"]),
    ("panels as deep as what is taken of them", PRODUCT, "(t->panel_words ? t->panel_words : t->words)", "t->words",
     ["kernels/product"]),
    ("GELU's slope in bf16 without the cube", GATES, "vf_fma(vf_set1(0.134145f), vf_mul(u, u), one)",
     "vf_fma(vf_set1(0.0f), vf_mul(u, u), one)", ["kernels/transformer"]),
    ("the slope of silu turned round", GATES, "vf_mul(s, vf_fma(g, vf_sub(one, s), one))",
     "vf_mul(s, vf_fma(g, vf_sub(s, one), one))", ["kernels/transformer"]),
    ("a norm's gradient along its output", ROWS, "vf_fnma(h, b, vf_sub(g, a))", "vf_fma(h, b, vf_sub(g, a))",
     ["kernels/transformer"]),
    ("half a rotation", ROWS, "vf_fma(a, sine, vf_mul(b, cosine))", "vf_fnma(a, sine, vf_mul(b, cosine))",
     ["kernels/transformer"]),
    # attention, its cache, the block
    ("the last block of a prefix is not its own", ATTEND, "(j < v->shared ? v->base_keys : v->keys)",
     "(j + job->kernels->panel < v->shared ? v->base_keys : v->keys)", ["tensor/attention"]),
    ("only the last that continues a prefix teaches it", ATTEND_BACK, "right + from * d + l, d, c + l, width, true);",
     "right + from * d + l, d, c + l, width, false);", ["tensor/attention"]),
    ("a block of keys goes on behind the end of a prefix", ATTEND_BACK, "if (j < past) count = LP__MIN(count, past - j);", "",
     ["tensor/attention"]),
    ("a block of rows too many does not see a key", ATTEND_BACK, "(int64_t)0) / high * high;", "(int64_t)0) / high * high + high;",
     ["tensor/attention"]),
    ("values of a prefix end a step early", ATTEND, "shared = v->shared / numbers;\n    const bool apart",
     "shared = LP__MAX(v->shared / numbers - 1, (int64_t)0);\n    const bool apart", ["tensor/attention"]),
    ("attention backward without its mean", SOFTMAX, "vf_sub(vf_load(dp + i), mean)",
     "vf_sub(vf_load(dp + i), vf_mul(mean, vf_set1(0.0f)))", ["kernels/transformer"]),
    ("scores are scaled before their maximum is taken off", SOFTMAX, "vf_mul(vf_sub(vf_load(s + i), top), factor)",
     "vf_fma(vf_load(s + i), factor, vf_mul(vf_sub(vf_set1(0.0f), top), factor))", ["kernels/transformer"]),
    ("what lies behind a row's keys has weight", SOFTMAX, "fill_tail(n, padded, -__builtin_inff(), s);\n    vf even",
     "fill_tail(n, padded, 0.0f, s);\n    vf even", ["kernels/transformer"]),
    ("a prefix counts from the front again", "src/lm/forward.c", "(int32_t)(past + i - batch->offsets[s])",
     "(int32_t)(0 * past + i - batch->offsets[s])", ["lm/precision"]),
    ("what a fork stands on may go", KV, "kv->slot[target->base].forks++;", "kv->slot[target->base].forks += 0;",
     ["nn/cache"]),
    ("a fork of a fork stands on the fork", KV, "source->base < 0 ? from : source->base;", "from;", ["nn/cache"]),
    ("a cleared fork still holds its base", KV, "if (s->base >= 0) kv->slot[s->base].forks--;", "", ["nn/cache"]),
    ("values of a cache change places in their pair", KV, "(pair[l] & 0xffff) | (uint32_t)half[l] << 16",
     "pair[l] << 16 | half[l]",
     ["nn/cache"]),
    ("what a pass left behind stays in the cache", KV, "(pair[l] & 0xffff) | (uint32_t)half[l] << 16",
     "pair[l] | (uint32_t)half[l] << 16", ["nn/cache"]),
    ("a tape that recomputes keeps everything", "src/nn/block.c",
     "const bool keep = node->t.needs_grad && !lp__block_state_of(node)->recompute;",
     "const bool keep = node->t.needs_grad;", ["nn/block"]),
    ("gradients of queries are turned on", BLOCK_BACK, "rotate(hd / 2, c, sine, dq + at + hd / 2, dq + at)",
     "rotate(hd / 2, c, sine, dq + at, dq + at + hd / 2)", ["nn/block"]),
    ("a step has rows of two sequences", BLOCK_BACK, "i + 1 < span->count ? first[at] + 1 : -1",
     "first[at] + 1 < b->rows ? first[at] + 1 : -1", ["nn/block"]),
    ("a fused layer norm forgets its mean in backward", BLOCK_BACK,
     "s->shape.norm == LP__NORM_LAYER ? sums[0] / (double)s->width : 0.0", "0.0", ["nn/block"]),
    ("the residual is lost on the way back", BLOCK_BACK, "axpy(s->width, 1.0f, d + i, dx + i)",
     "axpy(s->width, 0.0f, d + i, dx + i)", ["nn/block"]),
    # the head, and what follows a step
    ("a kept set is not applied", HEAD, "if (!kept) return job->vocab;", "if (!kept || n > 0) return job->vocab;",
     ["tensor/head"]),
    ("a step of the head has rows of two sequences", HEAD, "row + 1 < s->offsets[q + 1];", "row + 1 < rows;", ["tensor/head"]),
    ("the head's gradient at the target turned round", HEAD, "(float)(c * -expm1(", "(float)(c * expm1(", ["tensor/head"]),
    ("probabilities are kept without limit", HEAD, "(int64_t)(KEPT_BYTES / LP__MAX(row_bytes, 1))",
     "(int64_t)(KEPT_BYTES * LP__MAX(row_bytes, 1))", ["tensor/head"]),
    ("only half of the operands are fresh", OPTIM, "node->operand_valid[side] = job->operand[side] != NULL;",
     "node->operand_valid[side] = side == LP__PLAIN;", ["tensor/packing"]),
    ("noted rows of a table outlive its gradient", "src/tensor/params.c", "if (node->pending) node->pending->count = 0;", "",
     ["tensor/params"]),
    ("noted rows of a table are added again", "src/tensor/params.c", "grad + p->row[i] * cols);\n    p->count = 0;",
     "grad + p->row[i] * cols);", ["tensor/params"]),
    # fan-out, copies and settings
    ("missing detach: lp_detach gives its input back", "src/tensor/tape.c",
     "lp__dtype_bytes(x->type));\n    return &node->t;", "lp__dtype_bytes(x->type));\n    return x;", ["tensor/details"]),
    ("missing detach: a sample has a gradient", DIST,
     "return lp_detach(t, lp_add(t, lp_mul(t, noise, lp_exp(t, pi.log_std)), pi.mean));",
     "return lp_add(t, lp_mul(t, noise, lp_exp(t, pi.log_std)), pi.mean);", ["tensor/details"]),
    ("a gradient replaces another", "src/tensor/reduce.inc", "dx[i * cols + j] += dy[i];", "dx[i * cols + j] = dy[i];",
     ["tensor/gradcheck"]),
    ("the first of two equals takes the whole gradient", "src/tensor/elementwise.inc",
     "BINARY(maximum, a > b || a != a ? a : b, HALF(a > b, a == b), HALF(b > a, a == b))",
     "BINARY(maximum, a > b || a != a ? a : b, HALF(a >= b, a == b), HALF(b > a, 0))", ["tensor/details"]),
    ("the least probable action as mode", DIST, "lp_at(log_p, i, j) > lp_at(log_p, i, best)",
     "lp_at(log_p, i, j) < lp_at(log_p, i, best)", ["pg/rungs"]),
    ("clipping makes small gradients larger", OPTIM, "fmin(1.0, def->max_grad_norm / (norm + 1e-6))",
     "def->max_grad_norm / (norm + 1e-6)", ["tensor/optim"]),
    ("the last piece of a parameter stands still", OPTIM, "(lp__size(node) + PIECE - 1) / PIECE, run_piece",
     "LP__MAX(lp__size(node) / PIECE, 1), run_piece", ["tensor/optim"]),
    ("AdamW with another standard decay", OPTIM, "kind == LP_ADAMW ? 0.01 : 0.0", "kind == LP_ADAMW ? 0.001 : 0.0",
     ["tensor/optim"]),
    ("whitened rewards lose their mean", TRAIN, "lp_whiten(n, r->reward, false)", "lp_whiten(n, r->reward, true)",
     ["train/trl_steps"]),
    ("scores scaled but not centred", TRAIN, "(scores[s] - shift)", "(scores[s] - 0 * shift)", ["train/details"]),
    ("scores clipped on one side", TRAIN, "fmin(fmax(r->score[s], -d->score_clip), d->score_clip)",
     "fmin(r->score[s], d->score_clip)", ["train/details"]),
    ("no early stopping", TRAIN, "policy_kl > 1.5 * d->target_kl", "policy_kl > 1e9 * d->target_kl", ["train/limits"]),
    ("early stopping at the target itself", TRAIN, "policy_kl > 1.5 * d->target_kl", "policy_kl > 1.0 * d->target_kl",
     ["train/limits"]),
    ("a refused step leaves its gradient", TRAIN,
     "    if (status != LP_OK) lp_params_zero_grad(lp_weights_params(ppo->policy));\n", "", ["train/cancel"]),
    ("no new order for an epoch", TRAIN, "(uint64_t)ppo->steps, (uint32_t)epoch)",
     "(uint64_t)ppo->steps, 0 * (uint32_t)epoch)", ["train/details"]),
    ("every round samples the same", "src/train/ppo.c", "if (status == LP_OK) ppo->rounds++;", "", ["train/limits"]),
    ("a value head on one side of zero", "src/train/ppo.c",
     "(float)(bound * (2.0 * lp_rng_uniform(&rng) - 1.0));\n        lp_f32(ppo->pass.value_bias)",
     "(float)(bound * lp_rng_uniform(&rng));\n        lp_f32(ppo->pass.value_bias)", ["train/details"]),
    # environments
    ("only the first lane of a gradient", "src/tensor/ops_mlp.c", "grad && lane < job->lanes;", "grad && lane < 1;", ["nn/mlp"]),
    ("a hidden layer without the slope of its activation", "src/tensor/ops_mlp.c",
     "if (l > 0) activate_backward(job", "if (l > 99) activate_backward(job", ["tensor/gradcheck"]),
    ("a truncated episode is worth nothing more", "src/train/on_policy_rollout.c",
     "(float)(r->def.gamma * (double)r->steps.last_value[n++]);", "0 * r->steps.last_value[n++];", ["train/on_policy"]),
    ("a terminated episode is worth more", "src/train/on_policy_rollout.c",
     "if (r->taken[i] == 0 || !e->truncated[i] || e->terminated[i]) continue;\n        memcpy",
     "if (r->taken[i] == 0 || !(e->truncated[i] || e->terminated[i])) continue;\n        memcpy", ["train/on_policy"]),
    ("the next episode counts", "src/pg/advantage.c", "ended[at] ? 0.0 : 1.0", "ended[at] ? 1.0 : 1.0", ["train/sb3"]),
    ("advantages of a minibatch as they are", "src/train/on_policy_update.c", "lp_standardise(n, m->advantage);", "(void)n;",
     ["train/sb3"]),
    ("A2C with the surrogate of PPO", "src/train/on_policy_update.c", "ppo ? LP_SURROGATE_CLIPPED : LP_SURROGATE_SCORE",
     "ppo ? LP_SURROGATE_CLIPPED : LP_SURROGATE_CLIPPED", ["train/sb3"]),
    ("the value loss not clipped", "src/pg/loss.c", "lp_clamp(t, lp_sub(t, value, old_value), -c, c);",
     "lp_clamp(t, lp_sub(t, value, old_value), -1e9, 1e9 + 0 * c);", ["train/sb3"]),
    ("a value range that has fallen to 0 does not clip", "src/train/on_policy_update.c", "{r->def.clip_range_vf.initial > 0,",
     "{lp__schedule_now(r, r->def.clip_range_vf) > 0,", ["train/sb3"]),
    ("an entropy that is feared", "src/pg/loss.c", "lp_sub(t, loss, lp_scale(t, entropy, def->ent_coef))",
     "lp_add(t, loss, lp_scale(t, entropy, def->ent_coef))", ["train/sb3"]),
    ("an update goes on above target_kl", "src/train/on_policy_update.c", "if (*stop) return LP_OK;", "", ["train/sb3"]),
    ("an update that fails stays", "src/train/on_policy_update.c",
     "if (sums.minibatches > 0) lp_optim_rollback(r->optim);", "", ["train/on_policy"]),
    ("actions of all environments alike", "src/train/policy.c", "LP_FOR_ACTION, (uint64_t)env, draw->steps[env]);\n        const",
     "LP_FOR_ACTION, 0 * (uint64_t)env, 0 * draw->steps[env]);\n        const", ["train/on_policy"]),
    ("the cart is pushed the other way", CARTPOLE, "== 1 ? force_mag : -force_mag", "== 1 ? -force_mag : force_mag",
     ["env/cartpole"]),
    ("a step without tau", CARTPOLE, "s->theta_dot += tau * theta_acc;", "s->theta_dot += theta_acc;", ["env/cartpole"]),
    ("positions from the new velocities", CARTPOLE, "s->theta += tau * s->theta_dot;\n    s->theta_dot += tau * theta_acc;",
     "s->theta_dot += tau * theta_acc;\n    s->theta += tau * s->theta_dot;", ["env/cartpole"]),
    ("time is up a step late", ENVS, "env->steps >= most", "env->steps > most", ["env/cartpole"]),
    ("terminated and truncated swapped", ENVS, "e->terminated[i] = env->terminated; e->truncated[i] = env->truncated;",
     "e->terminated[i] = env->truncated; e->truncated[i] = env->terminated;", ["env/cartpole"]),
    ("truncated beside terminated", ENVS, "env->truncated = !terminated && most", "env->truncated = most", ["env/envs"]),
    ("every episode begins alike", ENVS, "(uint64_t)i, env->episode)", "(uint64_t)i, 0 * env->episode)", ["env/envs"]),
    ("streams in the order of arrival", ENVS, "lp__stream(e->seed, LP_FOR_ENV, (uint64_t)i, env->episode);",
     "lp__stream(e->seed, LP_FOR_ENV, 0, env->episode);\n    static uint64_t n;\n"
     "    rng = lp_rng_philox(e->seed, LP_FOR_ENV, n++, 0);", ["env/envs"]),
    ("the last observation is the next episode's first", ENVS,
     "memcpy(e->final_observation + i * n, e->ended + i * n,", "memcpy(e->final_observation + i * n, e->fresh + i * n,",
     ["env/envs"]),
    ("a return runs on into the next episode", ENVS, "    env->sum = 0;\n", "", ["env/envs"]),
    ("an environment's reward of NaN is accepted", ENVS, "if (!isfinite(env->sum))", "if (isinf(env->sum))",
     ["env/failures"]),
    ("a schedule that does not fall", "src/run/options.c", "*linear = strncmp(text, LINEAR, sizeof LINEAR - 1) == 0;",
     "*linear = false; text += 4 * (strncmp(text, LINEAR, sizeof LINEAR - 1) == 0);", ["run/options"]),
    ("one default for all algorithms", "src/run/options.inc", "LP_OPTION(A2C, name, type, a2c,",
     "LP_OPTION(A2C, name, type, ppo,", ["run/options"]),
    ("1e-05 in config.yaml, which some readers take for text", "src/run/config.c", 'strchr(text, '+"'.'"+') ? "" : ".0"',
     'strchr(text, '+"'.'"+') || strchr(text, '+"'e'"+') ? "" : ".0"', ["run/options"]),
    ("a text of config.yaml that is read as a truth value", "src/run/config.c",
     "if (strcasecmp(text, reserved[i]) == 0) return false;", "if (strcmp(text, reserved[i]) == 0) return false;",
     ["run/options"]),
    # tokenizers
    ("an added token keeps the number of the file", "src/text/hf.c", "id = LP__MAX(last + 1, known);", "id = 0 * (last + known) + added.id;",
     ["text/hf"]),
    ("two tokens share an id", "src/text/hf.c", "if (v->tokens[id].data && !lp__string_equal(v->tokens[id], content))",
     "if (false)", ["text/hf"]),
    ("ids leave any gap", "src/text/hf.c", "v->size > 2 * v->count", "v->size > 2000 * v->count", ["text/hf"]),
    ("white space before a token stays", "src/text/encode.c", "if (t->flags[id] & LP__TOKEN_LSTRIP)", "if (false)",
     ["text/hf"]),
    ("control tokens in plain text", "src/text/encode.c", "if (!w->parse_special && t->kinds[id] == LP__TOKEN_CONTROL) continue;",
     "", ["text/hf", "text/chat"]),
    ("merges are never ignored", "src/text/encode.c", "status == LP_OK && t->ignore_merges", "false", ["text/hf"]),
    ("marks are not composed", "src/text/normalize.c", "UTF8PROC_STABLE | UTF8PROC_COMPOSE", "UTF8PROC_STABLE",
     ["text/hf"]),
    ("numbers of Llama 3 have any length", "src/text/pretokenize.c",
     '[LP__PRE_LLAMA3] = {LLAMA3_PATTERN("\\\\p{N}{1,3}")', '[LP__PRE_LLAMA3] = {LLAMA3_PATTERN("\\\\p{N}+")', ["text/hf"]),
    ("half a surrogate pair is a character", "src/text/json.c", "} else if (code >= 0xdc00 && code <= 0xdfff) { code = -1; }",
     "}", ["text/hf"]),
    ("a pattern of a file is taken for GPT-2's", "src/text/pretokenize.c",
     "if (published && lp__string_equal(pattern, lp__string_of(published))) return i;",
     "if (pattern.data && published) return i;", ["text/hf"]),
    ("merges are saved from the second on", "src/text/hf_write.c", "for (int64_t rank = 0; rank < lp__tokenizer_merge_count(t)",
     "for (int64_t rank = 1; rank < lp__tokenizer_merge_count(t)", ["text/hf_save"]),
    # models and their files
    ("a layer norm that forgets its mean in backward", "src/tensor/layernorm.inc",
     "- a - ((double)x[j] - mean) * b", "- 0 * a - ((double)x[j] - mean) * b", ["tensor/gradcheck"]),
    ("GELU's slope without the cube", "src/tensor/layernorm.inc",
     "((real)1 + (real)3 * a * v * v)", "(real)1", ["tensor/gradcheck"]),
    ("a layer norm's variance with n - 1", "src/tensor/layernorm.inc",
     "square / (double)n + node->attr.number.a", "square / (double)(n - 1) + node->attr.number.a", ["lm/families"]),
    ("rotary heads of GGUF stay pair by pair", "src/lm/source_read.c", "if (t->head_dim > 0) {", "if (t->head_dim > 1 << 20) {",
     ["lm/model"]),
    ("GPT-2's matrices the other way round", "src/lm/source_read.c", "row_of(p->target, r) + p->first",
     "row_of(p->target, cols - 1 - r) + p->first", ["lm/families"]),
    ("no learned positions", "src/lm/forward.c", "if (w->position) x =", "if (w->position && tokens < 0) x =",
     ["lm/families"]),
    ("Llama 3's positions are not smooth", "src/lm/rope.c", "1.0 / ((1.0 - smooth) / r->factor + smooth)",
     "1.0 / (smooth / r->factor + 1.0 - smooth)", ["lm/families"]),
    ("Llama 3's long waves are not stretched", "src/lm/rope.c", "return r->factor;", "return 1.0;", ["lm/families"]),
    ("biases of Qwen2 are forgotten", "src/lm/arch_table.c", ".options = LP__QKV_BIAS", ".options = 0", ["lm/families"]),
    ("Q6_K: its high bits from the wrong half", "src/lm/dequant.c", "block + 128 + half * 32", "block + 128", ["lm/gguf"]),
    ("Q4_K: the scales of the last runs", "src/lm/dequant.c", "(s[i - 4] >> 2 & 48)", "(s[i] >> 2 & 48)", ["lm/gguf"]),
    ("F16: small numbers are rounded down", "src/lm/save.c", "bits_of(float_of(rest) + 0.5f) - bits_of(0.5f)", "bits_of(float_of(rest & 0x38000000u) + 0.5f) - bits_of(0.5f)",
     ["lm/families"]),
    ("a number that is infinite in F16 is written", "src/lm/save.c", "atomic_store(&p->overflow, true);", "atomic_store(&p->overflow, false);",
     ["lm/families"]),
    ("a shard of another folder", "src/lm/hf_shards.c", "!memchr(name.data, '/', name.bytes) &&", "", ["lm/folders"]),
    ("a link that leads out", "src/lm/hf_shards.c", "if (path && !stays_inside(s->ctx, path, s->path))",
     "if (path && !*path && !stays_inside(s->ctx, path, s->path))", ["lm/folders"]),
    ("a head that differs from the embedding is left out", "src/lm/weights.c",
     "status == LP_OK && memcmp(own, head->data, numbers * sizeof *own) != 0", "status == LP_OK && numbers == 0",
     ["lm/folders"]),
    ("a file that grew while it was read", "src/lm/weights.c", "status = lp__source_unchanged(m->source)", "status = LP_OK",
     ["lm/folders"]),
    ("a setting that is not known is ignored", "src/lm/hf_config.c", "if (value && !obeys(r, rule, value))",
     "if (value && rule->kind == LP__MUST_BE_NULL && !obeys(r, rule, value))", ["lm/folders"]),
    ("a safetensors file with a hole", "src/tensor/safetensors_header.c", "if (e->begin != at)", "if (e->begin < at)",
     ["tensor/safetensors_header"]),
    ("a shape that wraps", "src/tensor/safetensors_header.c", "!lp__mul_ok(e->rows, e->cols, &bits) ||",
     "(bits = (int64_t)((uint64_t)e->rows * (uint64_t)e->cols), false) ||", ["tensor/safetensors_header"]),
]


def sh(*command, cwd, timeout=900):
    """status and output of a command; the status is None if it had to be stopped"""
    try:
        ran = subprocess.run(command, cwd=cwd, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, timeout=timeout)
    except subprocess.TimeoutExpired:
        return None, ""
    return ran.returncode, ran.stdout.decode(errors="replace")


def target(test):
    return "test_" + test.replace("/", "_")


def build(folder, tests):
    return sh("cmake", "--build", "b", "-j", str(os.cpu_count()), "--target", *map(target, tests), cwd=folder)


def run_test(folder, test, least=1):
    """'' if it passes, the cases that failed, or a complaint beginning with '!'."""
    status, said = sh(os.path.join("b", "tests", test.split("/")[0], target(test)), cwd=folder, timeout=60)
    if status == 0:
        return ""
    failed = list(dict.fromkeys(re.findall(r"\[  FAILED  \] (?!GROUP)([a-z]\w*)", said)))
    if status is None:
        return f"! hangs in {test}"
    if status < 0 or "failed with exception" in said or not failed:
        return f"! crashes in {test} (status {status})"
    if len(failed) < least:
        return f"! only {len(failed)} cases of {test} fail, not {least}: {', '.join(failed)}"
    return f"{test}: {failed[0] if least == 1 else ', '.join(failed)}"


def places(text, right):
    """Where `right` stands in the text, as (begin, end), whatever blanks and line breaks lie in between."""
    at = [i for i, c in enumerate(text) if not c.isspace()]
    squeezed, wanted = "".join(text[i] for i in at), "".join(right.split())
    begins = [m.start() for m in re.finditer(f"(?={re.escape(wanted)})", squeezed)]
    return [(at[b], at[b + len(wanted) - 1] + 1) for b in begins]


def run_one(folder, path, right, wrong, tests, least=1):
    """The test and the case that noticed, or a complaint beginning with '!'."""
    full = os.path.join(folder, path)
    with open(full) as f:
        text = f.read()
    found = places(text, right)
    if len(found) != 1:
        return f"! its text stands {len(found)} times in {path}"
    with open(full, "w") as f:
        f.write(text[:found[0][0]] + wrong + text[found[0][1]:])
    try:
        status, said = build(folder, tests)
        if status != 0:
            return "! does not compile: " + said[-400:]
        for test in tests:
            found = run_test(folder, test, least)
            if found:
                return found
        return "! SURVIVES " + ", ".join(tests)
    finally:
        with open(full, "w") as f:
            f.write(text)


def main():
    chosen = [m for m in MUTANTS if not sys.argv[1:] or m[0] in sys.argv[1:]]
    survivors = 0
    with tempfile.TemporaryDirectory(prefix="logpi-mutants-") as folder:
        for part in ("src", "include", "cli", "examples", "tests", "models", "bench"):
            shutil.copytree(os.path.join(ROOT, part), os.path.join(folder, part))
        shutil.copy(os.path.join(ROOT, "CMakeLists.txt"), folder)
        tests = sorted({t for m in chosen for t in m[4]})
        status, said = sh("cmake", "-S", ".", "-B", "b", "-DCMAKE_BUILD_TYPE=Release", cwd=folder)
        if status == 0:
            status, said = build(folder, tests)
        if status != 0:
            sys.exit("mutants: the unchanged sources do not build:\n" + said[-2000:])
        broken = [t for t in tests if run_test(folder, t)]
        if broken:
            sys.exit("mutants: without any mutant these fail: " + ", ".join(broken))
        for name, *mutant in chosen:
            found = run_one(folder, *mutant)
            survivors += found.startswith("!")
            print(f"  {name:<56} {found}", flush=True)
        if build(folder, tests)[0] != 0 or any(run_test(folder, t) for t in tests):
            sys.exit("mutants: the tests fail with every mutant taken back")
    print(f"mutants: {len(chosen) - survivors} of {len(chosen)} found")
    sys.exit(1 if survivors or not chosen else 0)


if __name__ == "__main__":
    main()
