#include "plugin/inbound_hooks.h"

#include <utility>

#include "plugin/inbound_facts.h"

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
    Question question(hook, inbound_question(hook, occasion), executor_);
    question.back = &answers_;
    question.content = occasion.content;
    if (const std::shared_ptr<NodeHost> host = host_of(occasion.visitor)) {
        host->ask(question);
        co_await question.done.wait();
        if (question.asked != host.get()) follow(occasion.visitor.session, question.asked);
    }
    if (question.answer) co_return inbound_answer(*question.answer, std::move(question.octets));
    if (question.answer.error().code != Errc::cancelled) {
        log_.warn("plugins", "a client is turned away because plugins do not answer",
                  {{"session", occasion.visitor.session}, {"reason", question.answer.error().text()}});
    }
    Answer lost;
    lost.what = Answer::What::lost;
    co_return lost;
}

void InboundHooks::tell(Hook hook, const Occasion& occasion) {
    const std::shared_ptr<NodeHost> host = host_of(occasion.visitor);
    if (hook == Hook::left) sessions_.erase(occasion.visitor.session);
    if (host) host->report(R"({"t":"session",)" + inbound_question(hook, occasion) + "}");
}

}  // namespace sluice::plugin
