#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "async/task.h"
#include "base/ids.h"
#include "mail/message.h"
#include "smtp/reply.h"

namespace sluice::reception {

// The hooks of mail in, in the order of a session. Some stand for several of Haraka's, which follow each other:
//   opening   connect_init, lookup_rdns, connect; also wanted by who listens to disconnect only, as mail is for reset_transaction
//   hello     helo or ehlo, capabilities
//   command   unrecognized_command
//   rcpt      rcpt, rcpt_ok
//   content   data_post, queue_outbound or queue; then queue_ok when a plugin takes the message, or pre_send_trans_email when
//             it stays with us
//   oversize  max_data_exceeded
//   injected  pre_send_trans_email, of a message that no session brought
// Nobody waits for what is said to the last four: rset, queue_ok, reset_transaction and disconnect.
enum class Hook : std::uint8_t {
    opening, hello, command, mail, rcpt, data, content, oversize, vrfy, noop, quit, injected, rset, queued, reset, left
};
inline constexpr std::size_t hook_count = 16;

// The session as it stands. Value.
struct Visitor {
    std::string session;
    std::string client_ip, local_ip;
    std::string proxy_ip;  // empty: the client came directly
    std::uint16_t client_port = 0, local_port = 0;
    std::string helo;      // empty: no greeting yet
    bool extended = false;
    std::string tls_version, tls_cipher;  // empty in clear
    std::string auth_user;
    bool relaying = false;
    std::uint32_t errors = 0;
    bool begun = false;    // plugins were asked about this session before
};

// The transaction as it stands. The envelope lives until the answer.
struct Underway {
    std::uint32_t number = 0;  // of the session's, from 1
    const mail::Envelope* envelope = nullptr;
    std::size_t known = 0;     // so many recipients plugins have heard of
    std::optional<bool> relaying;  // what a plugin said about this one
    std::uint64_t declared_size = 0;
};

// What a question is about; beyond session and transaction each hook has members of its own. Pointers live until the answer.
struct Occasion {
    Visitor visitor;
    std::optional<Underway> transaction;
    std::vector<std::string> lines;             // hello: what EHLO would be answered with, the greeting first
    std::string command;                        // command: the line
    const mail::Recipient* recipient = nullptr; // rcpt
    bool permitted = false;                     // rcpt: mail for that domain is taken from anybody
    const std::string* content = nullptr;       // content, injected
    MessageId message;                          // content, injected: its id if it stays with us
    bool keeps = false;                         // content: it stays although the client may not relay
    std::string text;                           // queued: the reply. injected: the notes
};

// What plugins say. Value.
struct Answer {
    enum class What : std::uint8_t {
        go_on,      // nobody objects, nobody decided
        ok,         // rcpt: taken. content: a plugin has the message, we do not keep it. Elsewhere as go_on, with other words
        deny,
        deny_soft,
        lost,       // nobody knows what plugins would have said: the mail does not go past them
    } what = What::go_on;
    int code = 0;                   // the plugin's own for its refusal, or 0
    std::vector<std::string> text;  // its words; none: the usual ones
    std::string by;                 // the plugin
    bool disconnect = false;        // the session ends with this reply
    bool reset = false;             // and the transaction
    bool more = false;              // command: the next line is a plugin's, whatever it says
    std::vector<smtp::Reply> said;  // replies that come before all that
    std::optional<smtp::Reply> loop;  // the only reply from now on, until the client quits
    std::vector<std::string> lines; // hello: as above; empty: unchanged
    // What the plugins said last about relaying, for the session and for this transaction; nothing: as told.
    std::optional<bool> relaying, transaction_relaying;
    std::string auth_user;          // logged in by a plugin

    // content, of a message that stays with us, and injected:
    enum class Changed : std::uint8_t { nothing, header, all } changed = Changed::nothing;
    std::string octets;             // the header section with its empty line, or all of the content
    std::optional<std::string> mail_from;               // "<a@b>"
    std::optional<std::vector<std::string>> rcpt_to;
    std::string notes;              // JSON object text, or empty
};

// What plugins may decide about mail in. Shard-owned, except wants().
//
// A hook that nobody registered must not be called: wants() tells at the cost of one load. Whatever plugins do instead of
// answering, an answer comes in bounded time; What::lost says that there is none, and then nothing is accepted: sessions end
// with 421, messages with 451. Questions about one session are put one after the other.
class Hooks {
public:
    virtual ~Hooks() = default;

    virtual bool wants(Hook hook) const = 0;
    virtual Task<Answer> ask(Hook hook, const Occasion& occasion) = 0;
    // Of rset, queued, reset and left, which plugins hear of after all that was asked before. Must be called for `reset` and
    // `left` whoever registered, once plugins were asked about that transaction or session.
    virtual void tell(Hook hook, const Occasion& occasion) = 0;
};

}  // namespace sluice::reception
