/* The tables that dispatch.c chooses from; each is defined by kernels_<isa>.c. */
#ifndef LP__TABLES_H
#define LP__TABLES_H

#include "kernels/kernels.h"

extern const lp__kernels lp__kernels_scalar;
extern const lp__kernels lp__kernels_avx2;
extern const lp__kernels lp__kernels_avx512;
extern const lp__kernels lp__kernels_avx512_bf16;

#endif
