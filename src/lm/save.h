/* Writing a model: what the two kinds of files share. */
#ifndef LP__LM_SAVE_H
#define LP__LM_SAVE_H

#include "lm/model.h"

typedef struct lp__saving {
    const lp_model* model;
    lp_weights* weights;
    lp_file_type type;
    bool gguf; /* layout: GGUF's, or that of Hugging Face's folder */
} lp__saving;

/* "F32", as safetensors says it; "float32", as config.json does; LP__GGML_F32 and so on. */
const char* lp__file_type_name(lp_file_type type);
uint32_t lp__file_type_ggml(lp_file_type type);
size_t lp__file_type_bytes(lp_file_type type);

/* Writes the numbers of a tensor as the file has them, in a type of their own. LP_NONFINITE: one is
 * too large for it. */
lp_status lp__save_slot(const lp__saving* saving, const lp__slot* slot, lp_file_type type,
                        lp__writer* writer);

/* Everything of a folder but the tokenizer; a whole GGUF file. */
lp_status lp__save_folder(const lp__saving* saving, const char* folder);
lp_status lp__save_gguf(const lp__saving* saving, const char* path);

#endif
