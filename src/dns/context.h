#pragma once

#include "async/task.h"
#include "dns/finding.h"

namespace sluice::dns {

// Asks the DNS servers for a resolver, which decides what is asked, how long is waited and what is kept. A context cannot
// change its servers, so a change of settings means a new one. Shard-owned.
class Context {
public:
    // Who waits for an answer. Outlives its question: until told, or until it cancelled.
    class Asker {
    public:
        virtual const Question& question() const = 0;
        virtual void told(Finding finding) = 0;

    protected:
        ~Asker() = default;
    };

    virtual ~Context() = default;

    // Asks, and calls asker.told() later from serve(). Returns a number for cancel().
    virtual Result<int> ask(Asker& asker) = 0;
    // The asker of this number will not be told.
    virtual void cancel(int number) = 0;

    // Delivers answers until stop(). Must be running for anybody to be told.
    virtual Task<> serve() = 0;
    virtual void stop() = 0;
};

}  // namespace sluice::dns
