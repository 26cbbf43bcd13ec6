/* The reference: plain C, for every processor. */
#include "kernels/tables.h"

#define LP__SIMD_SCALAR
#include "simd.h"

#define TABLE lp__kernels_scalar
#define ISA   LP_ISA_SCALAR
#define NAME  "scalar"
#include "table.inc"
