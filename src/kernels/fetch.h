/* Asking for a line of memory before it is needed. In assembly, because GCC 12 takes a function
 * that does nothing but __builtin_prefetch for one that does nothing, and leaves its calls out. */
#ifndef LP__FETCH_H
#define LP__FETCH_H

enum { LP__LINE = 64 }; /* bytes */

#if defined(__x86_64__)
#define LP__FETCH(instruction, x) __asm__ volatile(instruction " %0" : : "m"(*(const char*)(x)))
/* To be read; to be written as well; to be read, on its way to the second level of the cache. Any
 * address will do. */
static inline void lp__fetch(const void* x) { LP__FETCH("prefetcht0", x); }
static inline void lp__fetch_write(const void* x) { LP__FETCH("prefetchw", x); }
static inline void lp__fetch_second(const void* x) { LP__FETCH("prefetcht1", x); }
#undef LP__FETCH
#else
static inline void lp__fetch(const void* x) { __builtin_prefetch(x); }
static inline void lp__fetch_write(const void* x) { __builtin_prefetch(x, 1); }
static inline void lp__fetch_second(const void* x) { __builtin_prefetch(x, 0, 2); }
#endif

#endif
