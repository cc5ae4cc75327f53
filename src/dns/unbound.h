#pragma once

#include <boost/asio/posix/basic_stream_descriptor.hpp>

#include "async/task.h"
#include "config/settings.h"
#include "dns/finding.h"

struct ub_ctx;
struct ub_result;

namespace sluice::dns {

// What the library's result means. Malformed data is dns_temporary; the time to live is as the library gives
// it.
Finding read_result(const Question& question, const ub_result& result);

// One context of libunbound: its thread does the asking, its descriptor tells the shard of answers. A context
// cannot change its servers, so a change of settings means a new one. Shard-owned.
class UnboundContext {
public:
    // Who waits for an answer. Outlives its question: until told, or until it cancelled.
    class Asker {
    public:
        virtual const Question& question() const = 0;
        virtual void told(Finding finding) = 0;

    protected:
        ~Asker() = default;
    };

    // Does not fail: a context that could not be set up answers every question with the reason.
    UnboundContext(async::Executor executor, const config::DnsSettings& settings);
    UnboundContext(const UnboundContext&) = delete;
    UnboundContext& operator=(const UnboundContext&) = delete;
    // Questions under way are dropped; their askers are not told.
    ~UnboundContext();

    // Asks, and calls asker.told() later from serve(). Returns a number for cancel().
    Result<int> ask(Asker& asker);
    // The asker of this number will not be told.
    void cancel(int number);

    // Delivers answers until stop(). Must be running for anybody to be told.
    Task<> serve();
    void stop();

private:
    Result<> set_up(const config::DnsSettings& settings);
    Result<> set_options(const config::DnsSettings& settings);
    Result<> set_servers(const config::DnsSettings& settings);
    Result<> forget_local_zones();

    ub_ctx* context_;
    Result<> usable_;
    boost::asio::posix::basic_stream_descriptor<async::Executor> answers_;
    bool stopping_ = false;
};

}  // namespace sluice::dns
