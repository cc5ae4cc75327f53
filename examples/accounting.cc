// A native plugin in C++: writes a line of JSON for each delivery, from a thread of its own, and says when deferred mail
// is tried again. config/accounting.ini:
//
//     file = log/accounting.jsonl    from the instance; this is the default
//     [retry]
//     example.test = 90              seconds, for this domain
//     450 = 600                      for replies that begin so; a domain's own wins

#include <sluice/plugin.hpp>

#include <condition_variable>
#include <cstdlib>
#include <fstream>
#include <map>
#include <mutex>
#include <string>
#include <thread>
#include <vector>

namespace {

using namespace sluice::plugins;

void append_quoted(std::string& out, std::string_view text) {
    out += '"';
    for (const char letter : text) {
        const auto octet = static_cast<unsigned char>(letter);
        if (letter == '"' || letter == '\\') out += '\\';
        if (octet < 0x20) {
            char escaped[8];
            std::snprintf(escaped, sizeof escaped, "\\u%04x", octet);
            out += escaped;
        } else {
            out += letter;
        }
    }
    out += '"';
}

void append_member(std::string& out, const char* name, std::string_view value) {
    out.append(out.empty() ? "{" : ",").append("\"").append(name).append("\":");
    append_quoted(out, value);
}

// Writes lines on a thread of its own, so that nobody else waits for the disk.
class Lines {
public:
    explicit Lines(const std::string& file) : out_(file, std::ios::app), thread_([this] { write(); }) {}
    ~Lines() {
        {
            const std::scoped_lock lock(mutex_);
            over_ = true;
        }
        more_.notify_one();
        thread_.join();
    }
    bool good() const { return out_.good(); }
    void add(std::string line) {
        {
            const std::scoped_lock lock(mutex_);
            waiting_.push_back(std::move(line));
        }
        more_.notify_one();
    }

private:
    void write() {
        std::unique_lock lock(mutex_);
        while (!over_ || !waiting_.empty()) {
            more_.wait(lock, [this] { return over_ || !waiting_.empty(); });
            std::vector<std::string> lines;
            lines.swap(waiting_);
            lock.unlock();
            for (const std::string& line : lines) out_ << line << '\n';
            out_.flush();
            lock.lock();
        }
    }

    std::ofstream out_;
    std::mutex mutex_;
    std::condition_variable more_;
    std::vector<std::string> waiting_;
    bool over_ = false;
    std::thread thread_;
};

class Accounting {
public:
    explicit Accounting(Host host) : Accounting(host, host.config("accounting.ini", SLUICE_INI)) {}

    Answer delivered(const Call& call) {
        std::string line;
        append_member(line, "item", call.id());
        append_member(line, "from", address_text(call.item().mail_from));
        std::string to;
        for (const sluice_recipient& recipient : call.recipients()) {
            if (!to.empty()) to += ',';
            to += address_text(recipient.address);
        }
        append_member(line, "to", to);
        append_member(line, "host", call.host_name());
        append_member(line, "response", call.response());
        line += ",\"octets\":" + std::to_string(call.item().octets) + ",\"attempts\":" + std::to_string(call.attempts() + 1) +
                ",\"delay_ms\":" + std::to_string(call.delay().count()) + "}";
        lines_.add(std::move(line));
        return Answer::go_on();
    }

    Answer deferred(const Call& call) {
        auto found = retries_.find(std::string(call.domain()));
        if (found == retries_.end()) found = retries_.find(std::string(call.reason().substr(0, 3)));
        return found == retries_.end() ? Answer::go_on() : Answer::retry_in(found->second);
    }

private:
    Accounting(Host host, const Config& config)
        : lines_(std::string(host.directory()) + "/" + std::string(config.get("file").value_or("log/accounting.jsonl"))) {
        if (!lines_.good()) throw std::runtime_error("the file of accounting.ini cannot be written");
        for (const Config::Entry& entry : config.entries()) {
            if (entry.section == "retry") retries_[std::string(entry.key)] = seconds_of(entry);
        }
        host.listen<&Accounting::delivered>(SLUICE_HOOK_DELIVERED);
        if (!retries_.empty()) host.listen<&Accounting::deferred>(SLUICE_HOOK_DEFERRED);
    }

    static std::chrono::seconds seconds_of(const Config::Entry& entry) {
        const std::string value(entry.value);
        char* end = nullptr;
        const long seconds = std::strtol(value.c_str(), &end, 10);
        if (seconds <= 0 || seconds > 31'536'000 || *end != '\0') {
            throw std::runtime_error("config/accounting.ini:" + std::to_string(entry.line) + ": expected seconds, found `" + value + "`");
        }
        return std::chrono::seconds(seconds);
    }

    Lines lines_;
    std::map<std::string, std::chrono::seconds> retries_;
};

}  // namespace

SLUICE_CXX_PLUGIN(Accounting, "1.0")
