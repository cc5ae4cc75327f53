#pragma once

namespace sluice {

// Prints the condition, its place and a backtrace to standard error, then aborts. The spool recovers on restart.
[[noreturn]] void assertion_failed(const char* condition, const char* file, int line);

}  // namespace sluice

// For our own bugs only: an impossible state, a broken invariant. Stays on in release builds.
#define ASSERT(condition) \
    (static_cast<bool>(condition) ? void(0) : ::sluice::assertion_failed(#condition, __FILE__, __LINE__))
#define UNREACHABLE() ::sluice::assertion_failed("unreachable", __FILE__, __LINE__)
