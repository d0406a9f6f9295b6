/* Assertions that stay on in production: a broken invariant stops the process before it can damage
 * stored data. Peer input must never reach one. DASSERT is for costly checks, on in debug builds.
 */
#ifndef WEIR_BASE_ASSERT_H
#define WEIR_BASE_ASSERT_H

/* Prints file, line and expression to standard error and aborts. */
_Noreturn void assert_fail(const char *file, int line, const char *expr);

#define ASSERT(x) (__builtin_expect(!!(x), 1) ? (void)0 : assert_fail(__FILE__, __LINE__, #x))
#ifdef WEIR_DEBUG
#define DASSERT(x) ASSERT(x)
#else
#define DASSERT(x) ((void)0)
#endif

#endif
