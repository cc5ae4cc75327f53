#include "net/stream.h"

namespace sluice::net {

Task<Result<>> Stream::write(std::string_view bytes) {
    co_return co_await write_all(std::span(&bytes, 1));
}

}  // namespace sluice::net
