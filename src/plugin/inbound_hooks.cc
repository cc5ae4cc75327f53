#include "plugin/inbound_hooks.h"

#include <utility>

#include "plugin/inbound_facts.h"
#include "plugin/json_members.h"

namespace sluice::plugin {

using reception::Answer;
using reception::Hook;
using reception::Occasion;

InboundHooks::InboundHooks(async::Executor executor, Hosts& hosts, event::Log& log)
    : executor_(executor), hosts_(hosts), log_(log), answers_(executor, [](std::vector<Question*>& questions) {
          for (Question* question : questions) question->done.set();
      }) {}

std::shared_ptr<NodeHost> InboundHooks::host_of(const reception::Visitor& visitor) {
    // Mail that the API brings belongs to no session.
    if (visitor.session.empty()) return hosts_.lease();
    std::shared_ptr<NodeHost>& host = sessions_[visitor.session];
    if (!host) host = hosts_.lease();
    return host;
}

// A question that a host could not put to its plugins before others took their place went to those: the session is theirs.
void InboundHooks::follow(const std::string& session, const NodeHost* asked) {
    const std::shared_ptr<NodeHost> now = hosts_.lease();
    const auto known = sessions_.find(session);
    if (known != sessions_.end() && now.get() == asked) known->second = now;
}

Task<Answer> InboundHooks::ask(Hook hook, const Occasion& occasion) {
    HostAnswer said = co_await put(hook, occasion, {});
    co_return std::move(said.answer);
}

Task<HostAnswer> InboundHooks::put(Hook hook, const Occasion& occasion, std::string more, bool knows_content) {
    Question question(hook, inbound_question(hook, occasion, knows_content) + more, executor_);
    question.back = &answers_;
    question.content = occasion.content;
    if (const std::shared_ptr<NodeHost> host = host_of(occasion.visitor)) {
        host->ask(question);
        co_await question.done.wait();
        if (question.asked != host.get()) follow(occasion.visitor.session, question.asked);
    }
    HostAnswer said;
    if (question.answer) {
        said.decided = is_true(*question.answer, "decided");
        said.rdns = text_of(*question.answer, "rdns");
        said.answer = inbound_answer(*question.answer, std::move(question.octets));
        co_return said;
    }
    if (question.answer.error().code != Errc::cancelled) {
        log_.warn("plugins", "a client is turned away because plugins do not answer",
                  {{"session", occasion.visitor.session}, {"reason", question.answer.error().text()}});
    }
    said.answer.what = Answer::What::lost;
    co_return said;
}

void InboundHooks::tell(Hook hook, const Occasion& occasion) { tell(hook, occasion, {}); }

void InboundHooks::tell(Hook hook, const Occasion& occasion, const std::string& more) {
    const std::shared_ptr<NodeHost> host = host_of(occasion.visitor);
    if (hook == Hook::left) sessions_.erase(occasion.visitor.session);
    if (host) host->report(R"({"t":"session",)" + inbound_question(hook, occasion) + more + "}");
}

JavaScriptListenersPtr InboundHooks::listeners(const reception::Visitor& visitor) const {
    const auto known = sessions_.find(visitor.session);
    const std::shared_ptr<NodeHost> host = known != sessions_.end() && known->second ? known->second : hosts_.lease();
    return host ? host->listeners() : nullptr;
}

}  // namespace sluice::plugin
