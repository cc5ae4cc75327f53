// Boost.JSON is used header-only; its definitions live in this one translation unit of the program.
#include <boost/json/src.hpp>
