/* SPDX-License-Identifier: Apache-2.0 */
#ifndef SLUICE_PLUGIN_H
#define SLUICE_PLUGIN_H

/*
 * The interface between Sluice and native plugins: shared objects that are listed in config/plugins. Plain C11; for C++
 * see plugin.hpp. docs/guide/native-plugins.md shows how to write one.
 *
 * PROCESS. A native plugin is part of the engine's process. A crash of the plugin is a crash of the engine (which its
 * supervisor starts again, and no mail is lost), memory that it overwrites is the engine's memory, and nothing limits
 * what it uses. Write plugins in JavaScript unless you need what only this interface gives.
 *
 * VERSIONS. SLUICE_PLUGIN_ABI is the number of the interface; the engine loads plugins of exactly its number. Within a
 * number the interface only grows: members are added at the end of structures, and hooks, flags and codes get new values.
 * Every structure begins with `size`, which whoever fills the structure in sets to sizeof as he was compiled; who reads it
 * takes members beyond `size` as absent (zero). SLUICE_HAS tells whether a member of the engine's is there. So a plugin
 * need not be compiled anew for a newer engine, nor, when it asks before it uses what is new, for an older one.
 *
 * THREADS. init() and shutdown() are called on one thread. Hooks are called on the engine's I/O threads, several at once:
 * a plugin protects what it shares. They must return at once, within microseconds, because meanwhile nothing else happens
 * on that thread; an engine whose I/O threads stand still is ended and started again. A hook that has to wait takes a
 * ticket with later(), returns SLUICE_PENDING, and calls answer() from any thread; one that is registered with
 * SLUICE_MAY_BLOCK is called on threads that are there for that. All functions of sluice_host may be called on any thread,
 * where nothing else is said.
 *
 * TIME. A plugin that does not answer within its timeout (config/NAME.timeout, else config/plugin_timeout, else 30 s;
 * 0: none) is passed over in the safe way of each hook, which stands below. An answer that comes too late, or twice, does
 * no harm: the first one in time counts, and answer() says whether it was that.
 *
 * OWNERSHIP. What the engine hands to a hook (call, event, and all that they point to) is valid until the hook returns;
 * keep() makes it last. What a plugin hands to a function is copied before the function returns. Nothing is freed by
 * anybody but who made it. The structure sluice_host is valid until shutdown() returns, and so are tickets.
 *
 * TEXT is octets with a length. It is not ended by a NUL, may contain any octet, and is UTF-8 only where its source was.
 */

#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

#define SLUICE_PLUGIN_ABI 1u

/* Whether the structure of the engine's that `pointer` points to has this member. */
#define SLUICE_HAS(pointer, member) \
    ((pointer)->size >= (size_t)((const char *)(&(pointer)->member + 1) - (const char *)(pointer)))

#if defined(__GNUC__)
#define SLUICE_EXPORT __attribute__((visibility("default")))
#else
#define SLUICE_EXPORT
#endif

typedef struct sluice_text {
    const char *data; /* NULL: absent */
    size_t size;
} sluice_text;

/* ---- hooks --------------------------------------------------------------------------------------------------------- */

/*
 * Hooks are Haraka's and run in its order: by priority, then in the order of config/plugins, native and JavaScript plugins
 * in one chain. SLUICE_CONT asks the next plugin; every other code ends the chain.
 *
 * hook         answers                                                               without an answer in time
 * SEND_EMAIL   SLUICE_DELAY with delay_ms: not now, nothing has failed.              the next plugin is asked
 *              Other codes: go on.
 * GET_MX       SLUICE_OK with mx: these hosts, for this attempt. SLUICE_DENY...:     deferred with 4.1.2
 *              bounced with 5.1.2 and reason. SLUICE_DENYSOFT...: deferred with
 *              4.1.2 and reason. Other codes: the route of the domain.
 * DEFERRED     SLUICE_DENYSOFT... with delay_ms: the next attempt then. Other        the next plugin is asked
 *              codes: removed from the queue, recorded with the plugin's name.
 * BOUNCE       Other codes than CONT: bounced without a notification.                the next plugin is asked
 * DELIVERED    Ignored, apart from ending the chain. There is no ticket.             nobody waits
 *
 * When nobody decides: SEND_EMAIL go on, GET_MX the route of the domain, DEFERRED the retry schedule, BOUNCE a
 * notification (DSN).
 *
 * Hooks of mail in. The session waits for the answer and nothing else does. SLUICE_DENY... refuses for good and
 * SLUICE_DENYSOFT... for now, with the usual reply or with reply_code and reason; ...DISCONNECT ends the session after that
 * reply, and DISCONNECT is DENYSOFTDISCONNECT, before the greeting DENYDISCONNECT. Other codes than those and what stands
 * here end the chain and change nothing. An exception counts as SLUICE_CONT, but in DATA_POST, QUEUE and QUEUE_OUTBOUND as
 * a refusal for now, as silence does.
 *
 * hook                  about            answers beside refusals                     without an answer in time
 * LOOKUP_RDNS           connection       OK with reason: the name of the client      refused for now
 * CONNECT               connection       OK with reason: the greeting                refused for now
 * HELO, EHLO            connection                                                   refused for now
 * CAPABILITIES          connection       CONT with reason: lines that EHLO is        the next plugin is asked
 *                                        answered with besides; no refusal
 * UNRECOGNIZED_COMMAND  text: the line   OK: 250, or reason                          refused for now
 * MAIL                  transaction      OK with reason: words of the reply          refused for now
 * RCPT                  rcpt             OK: taken, also from who may not relay;     refused for now
 *                                        then only a plugin's QUEUE may have it
 * RCPT_OK               rcpt, as taken   OK with reason: words of the reply          refused for now
 * DATA                  transaction                                                  refused for now
 * DATA_POST             content                                                      refused for now
 * QUEUE_OUTBOUND        content, where   OK: the plugin has the message, and we      refused for now
 *                       the client may   do not keep it
 *                       relay
 * QUEUE                 content, else    the same                                    refused for now
 * PRE_SEND_TRANS_EMAIL  content that     nothing; there may be no connection         the next plugin is asked
 *                       stays with us
 * MAX_DATA_EXCEEDED     transaction                                                  refused for now
 * VRFY, NOOP            connection       OK with reason: words of the reply          refused for now
 * QUIT                  connection       OK with reason: words of the reply. Never   the next plugin is asked
 *                                        refused: DENY... and DENYSOFT... likewise
 * DENY                  text, refused_*, OK: what a native plugin refused is not     nobody waits
 *                       refused_by       refused, and the chain goes on
 * QUEUE_OK, RSET,       text: the reply  nothing. There is no ticket; after another  nobody waits
 * RESET_TRANSACTION,    to the message   code than CONT native plugins that follow
 * DISCONNECT            (QUEUE_OK)       are not told
 *
 * DENY is called for refusals of native and of JavaScript plugins, there is no ticket, and of the latter none is undone.
 */
enum {
    SLUICE_HOOK_SEND_EMAIL = 1,
    SLUICE_HOOK_GET_MX = 2,
    SLUICE_HOOK_DEFERRED = 3,
    SLUICE_HOOK_BOUNCE = 4,
    SLUICE_HOOK_DELIVERED = 5,
    SLUICE_HOOK_LOOKUP_RDNS = 6,
    SLUICE_HOOK_CONNECT = 7,
    SLUICE_HOOK_HELO = 8,
    SLUICE_HOOK_EHLO = 9,
    SLUICE_HOOK_CAPABILITIES = 10,
    SLUICE_HOOK_UNRECOGNIZED_COMMAND = 11,
    SLUICE_HOOK_MAIL = 12,
    SLUICE_HOOK_RCPT = 13,
    SLUICE_HOOK_RCPT_OK = 14,
    SLUICE_HOOK_DATA = 15,
    SLUICE_HOOK_DATA_POST = 16,
    SLUICE_HOOK_QUEUE = 17,
    SLUICE_HOOK_QUEUE_OUTBOUND = 18,
    SLUICE_HOOK_QUEUE_OK = 19,
    SLUICE_HOOK_PRE_SEND_TRANS_EMAIL = 20,
    SLUICE_HOOK_DENY = 21,
    SLUICE_HOOK_MAX_DATA_EXCEEDED = 22,
    SLUICE_HOOK_VRFY = 23,
    SLUICE_HOOK_NOOP = 24,
    SLUICE_HOOK_RSET = 25,
    SLUICE_HOOK_QUIT = 26,
    SLUICE_HOOK_RESET_TRANSACTION = 27,
    SLUICE_HOOK_DISCONNECT = 28
};

/* What hooks return; the numbers are Haraka's. */
enum {
    SLUICE_PENDING = 0, /* the answer comes later, by the ticket */
    SLUICE_CONT = 900,
    SLUICE_STOP = 901,
    SLUICE_DENY = 902,
    SLUICE_DENYSOFT = 903,
    SLUICE_DENYDISCONNECT = 904,
    SLUICE_DISCONNECT = 905,
    SLUICE_OK = 906,
    SLUICE_NEXT_HOOK = 907,
    SLUICE_DELAY = 908,
    SLUICE_DENYSOFTDISCONNECT = 909
};

typedef struct sluice_host sluice_host;
typedef struct sluice_call sluice_call; /* one call of a hook */

/* Names a call that is answered later; never 0, and never given again. */
typedef uint64_t sluice_ticket;

/* An address, without brackets and quotes; both parts empty: the null reverse-path. */
typedef struct sluice_address {
    sluice_text local, domain;
} sluice_address;

/* A message on its way to one destination: Haraka's hmail with its todo, as plugins asked before this one have changed it.
 * Filled in by the engine. */
typedef struct sluice_item {
    uint32_t size;
    uint32_t attempts;        /* failed ones before this (num_failures) */
    sluice_text id;           /* "MESSAGE.n", in logs and events, and the `filename` of JavaScript plugins */
    sluice_text message;      /* the same without ".n" */
    sluice_text domain;       /* of the recipients, in lower case and A-labels, or an address literal */
    sluice_address mail_from;
    uint32_t recipient_count; /* of those that the hook is about; see recipient() */
    uint32_t attempted_count; /* of those that were, or will be, attempted */
    uint64_t octets;          /* of the message */
    int64_t arrival_ms;       /* since the epoch */
    int64_t now_ms;
    sluice_text envid;        /* of MAIL, in xtext; absent: none */
    sluice_text auth_user;    /* who submitted it; absent: nobody had logged in */
    sluice_text origin;       /* "smtp 192.0.2.1", "http", "dsn" */
    sluice_text tenant, job, transport;
    uint32_t priority;        /* 0 to 7 */
    uint32_t item_count;      /* of the message */
} sluice_item;

/* A client's session with us. Filled in by the engine. */
typedef struct sluice_connection {
    uint32_t size;
    uint32_t errors;        /* commands that were refused so far */
    sluice_text id;         /* of the session, in logs; the `uuid` of JavaScript plugins */
    sluice_text remote_ip;  /* behind a proxy: who the proxy says it is. "unix": a local socket */
    sluice_text local_ip;
    sluice_text proxy_ip;   /* absent: it came directly */
    sluice_text rdns;       /* as LOOKUP_RDNS of a plugin or the plugin host found; absent: nobody looked */
    sluice_text hello;      /* what it called itself; absent: it has not greeted yet */
    sluice_text tls_version, tls_cipher; /* absent: in clear */
    sluice_text auth_user;  /* absent: nobody has logged in */
    uint16_t remote_port, local_port;
    uint8_t extended;       /* EHLO rather than HELO */
    uint8_t relaying;       /* may send to any domain; within a transaction: in that */
} sluice_connection;

/* A mail transaction, which has begun with MAIL. Filled in by the engine. */
typedef struct sluice_transaction {
    uint32_t size;
    uint32_t number;          /* of the session's, from 1; 0: no session brought it */
    sluice_address mail_from;
    uint32_t recipient_count; /* taken so far; see recipient() */
    uint32_t smtputf8;        /* 0 or 1 */
    uint64_t declared_octets; /* SIZE of MAIL; 0: none */
    uint64_t octets;          /* of the message, when there is one */
    sluice_text message;      /* with it: the id that it has, or will have if it stays with us */
    sluice_text body, ret, envid; /* of MAIL ("8BITMIME", "HDRS", xtext); absent: none */
} sluice_transaction;

typedef struct sluice_recipient sluice_recipient;

/* What a hook is told. Filled in by the engine. */
typedef struct sluice_event {
    uint32_t size;
    int32_t hook;
    const sluice_host *host; /* of the plugin that is called */
    const sluice_item *item; /* NULL in hooks of mail in */
    /* DEFERRED: until the next attempt. DELIVERED: since the message arrived. */
    int64_t delay_ms;
    /* DEFERRED, BOUNCE: the first recipient's, as "550 5.1.1 no such user". */
    sluice_text reason;
    /* DEFERRED, BOUNCE, DELIVERED; the host is absent when there was no connection. */
    sluice_text host_name; /* of the MX */
    sluice_text ip;        /* its address, or the path of a socket */
    sluice_text response;  /* DELIVERED: the text of the reply to the final dot */
    uint16_t port;
    uint8_t lmtp, secured, authenticated; /* 0 or 1 */
    /* Hooks of mail in: */
    const sluice_connection *connection;   /* NULL: the API has brought the message */
    const sluice_transaction *transaction; /* NULL: there is none */
    const sluice_recipient *rcpt;          /* RCPT, RCPT_OK: whom it is about, who is not among the recipients yet */
    sluice_text text;                      /* see there */
    sluice_text refused_by;                /* DENY: the plugin that refused */
    int32_t refused_hook, refused_code;    /* DENY; the hook is 0 when it is none of these, or not known */
} sluice_event;

/* One recipient. `size` is set by the plugin, the rest by the engine. */
struct sluice_recipient {
    uint32_t size;
    uint32_t place;         /* in the envelope, from 0; the same in every hook of the message */
    sluice_address address;
    sluice_text orcpt;      /* in xtext; absent: none */
    /* DEFERRED, BOUNCE, DELIVERED: what decided about it. */
    sluice_text status;     /* "4.2.1" */
    sluice_text response;   /* text of the reply, or why there was none */
    uint16_t code;          /* of the reply; 0: there was none */
};

/* The message as it goes out: header fields that were added here, then what was received. CRLF, without dot-stuffing. In
 * hooks of mail in all of it is `received`, as plugins have made it so far, and both are absent before it has come. */
typedef struct sluice_content {
    sluice_text added, received;
} sluice_content;

/* A host that get_mx names. Filled in by the plugin; zero what is not used. Either `next_hop`, a text as in
 * relay_dest_domains.ini ("host:port", "[2001:db8::1]:25", "smtp://user:password@host", "lmtp:///path" ...), or `host` or
 * `path`. Hosts of one answer share the protocol, login, EHLO name and local address of the first; those that need others
 * are left out. */
typedef struct sluice_mx {
    uint32_t size;
    uint16_t port;   /* 0: 25, for LMTP 24 */
    uint16_t flags;  /* SLUICE_MX_LMTP */
    sluice_text next_hop;
    sluice_text host; /* a name, whose addresses count and never its MX, or an address */
    sluice_text path; /* of a Unix socket */
    sluice_text user, password, auth_type;
    sluice_text helo; /* EHLO name */
    sluice_text bind; /* local address */
} sluice_mx;
enum { SLUICE_MX_LMTP = 1 };

/* A header field that a plugin adds. Filled in by the plugin. The name is at most 76 octets of visible ASCII without a colon.
 * Line ends in the value are left out, other control characters become blanks, and long values are folded at blanks; one
 * without a blank within 900 octets is none. */
typedef struct sluice_header {
    uint32_t size;
    uint32_t first; /* 1: above all other fields; 0: below them */
    sluice_text name, value;
} sluice_header;

/* What a plugin answers. Filled in by the plugin; zero what is not used. */
typedef struct sluice_answer {
    uint32_t size;
    int32_t code;
    sluice_text reason;  /* GET_MX with DENY... or DENYSOFT...; hooks of mail in: words of the reply, lines ended by LF. An
                          * enhanced code of the right class in front of a line is taken as one. */
    int64_t delay_ms;    /* SEND_EMAIL with DELAY, DEFERRED with DENYSOFT... */
    const sluice_mx *mx; /* GET_MX with OK, the preferred one first */
    size_t mx_count;     /* at most 100 */
    /* A JSON object whose members become members of the todo's notes, for this item, with any code. They are kept over
     * restarts with what JavaScript plugins note (64 Ki characters for one item), and SEND_EMAIL and GET_MX obey
     * `outbound_ip` and `outbound_helo` among them. Hooks of mail in that have a transaction: of its notes, which are those
     * of the message if it stays with us. */
    sluice_text notes;
    uint32_t flags;      /* of those below */
    /* DATA_POST, QUEUE, QUEUE_OUTBOUND, PRE_SEND_TRANS_EMAIL, with any code but a refusal: fields to add to the header. */
    const sluice_header *headers;
    size_t header_count; /* at most 100 */
    uint32_t reply_code; /* of a refusal, 4xx for now and 5xx for good; 0, or one that does not fit: the usual one */
    uint32_t reserved;   /* 0 */
} sluice_answer;
enum {
    SLUICE_FORCE_TLS = 1,   /* SEND_EMAIL, GET_MX: only with TLS and a certificate that verifies */
    /* Hooks of mail in: from now on the client may send to any domain, or may not; within a transaction, in that. */
    SLUICE_RELAY = 2,
    SLUICE_DO_NOT_RELAY = 4
};

/*
 * Returns a code, after reply() when there is more to say than that. `state` is what init() left there. An exception that
 * leaves a hook counts as SLUICE_CONT and is logged.
 */
typedef int32_t (*sluice_hook)(void *state, sluice_call *call, const sluice_event *event);

enum { SLUICE_MAY_BLOCK = 1 /* the hook is called on threads of its own, four for all plugins, and may wait there */ };

/* ---- configuration ------------------------------------------------------------------------------------------------- */

typedef struct sluice_config sluice_config;

/* Haraka's file types. */
enum {
    SLUICE_INI = 1,  /* entries have section ("main" before any), key and value */
    SLUICE_LIST = 2, /* lines that are neither blank nor comments, as values */
    SLUICE_VALUE = 3,/* the first such line */
    SLUICE_JSON = 4, /* one entry for each scalar, `key` is its JSON pointer ("/hosts/0"), strings without quotes */
    SLUICE_DATA = 5  /* all of the file, as one value */
};

typedef struct sluice_config_entry {
    uint32_t size;
    int32_t line; /* 0 in JSON and DATA */
    sluice_text section, key, value;
} sluice_config_entry;

/* ---- what the engine offers ---------------------------------------------------------------------------------------- */

/* One for each plugin. */
struct sluice_host {
    uint32_t size;
    uint32_t abi;
    const char *version;   /* of the engine */
    const char *directory; /* of the instance, absolute */
    const char *name;      /* of the plugin, as it is logged */
    void *engine;          /* the engine's own */

    /* In init() only: calls `hook` for this hook. Priorities are from -100, first, to 100; 0 is usual. Returns 0, or -1
     * when this engine has no such hook, when priority or flags are wrong, or after init(). */
    int (*listen)(const sluice_host *host, int32_t number, sluice_hook hook, int32_t priority, uint32_t flags);

    /* In a hook, on its thread: what the answer is besides its code. Returns that code, for the hook to return. The last
     * reply counts. */
    int32_t (*reply)(sluice_call *call, const sluice_answer *answer);
    /* In a hook, on its thread: makes sure that the call can be answered after it has returned SLUICE_PENDING. 0 where
     * nobody waits (DELIVERED). The same ticket each time. */
    sluice_ticket (*later)(sluice_call *call);
    /* Answers a ticket. Returns 1 when this is the answer, 0 when it came too late or was not the first. */
    int (*answer)(const sluice_host *host, sluice_ticket ticket, const sluice_answer *answer);

    /* Makes an event last beyond its hook until release(). Kept events may be read by several threads at once. They hold
     * the message in memory: keep few, and not for long. Returns another pointer, or the same one with an owner more. */
    const sluice_event *(*keep)(const sluice_event *event);
    void (*release)(const sluice_event *event);
    /* Fills in `recipient`, whose `size` is set, with one of item->recipient_count, or of the transaction's. Returns 0, or -1
     * when there is none. */
    int (*recipient)(const sluice_event *event, uint32_t index, sluice_recipient *recipient);
    /* The todo's notes of the item as a JSON object; with `live`, the notes that all items of the message share as
     * JavaScript plugins see them. "{}": none. In hooks of mail in, the notes of the transaction: what native plugins noted,
     * and, from DATA_POST on, JavaScript plugins before this one. Valid as long as the event. */
    sluice_text (*notes)(const sluice_event *event, int live);
    /* The message. Nothing is copied. Valid as long as the event. */
    sluice_content (*content)(const sluice_event *event);

    /* A line of the log, with Haraka's levels: 0 emerg, 1 alert, 2 crit, 3 error, 4 warn, 5 notice, 6 info, 7 debug. */
    void (*log)(const sluice_host *host, int level, sluice_text line);

    /* Reads DIR/config/`name` as `type`; `name` may contain folders, but not "..". A file that is not there is empty.
     * NULL: it cannot be read, and `why` (may be NULL) says why. Reads the disk: for init(), and for threads of the
     * plugin's own. */
    sluice_config *(*config)(const sluice_host *host, const char *name, int type, char *why, size_t why_size);
    size_t (*config_count)(const sluice_config *config);
    /* Fills in `entry`, whose `size` is set. Returns 0, or -1 when there is none. */
    int (*config_entry)(const sluice_config *config, size_t index, sluice_config_entry *entry);
    /* The last value of a key; absent: there is none. `section` NULL: "main" of an ini file, none of others. */
    sluice_text (*config_get)(const sluice_config *config, const char *section, const char *key);
    void (*config_free)(sluice_config *config);
};

/* ---- what a plugin offers ------------------------------------------------------------------------------------------ */

typedef struct sluice_plugin {
    uint32_t size;
    uint32_t abi; /* SLUICE_PLUGIN_ABI */
    const char *version; /* of the plugin, for people; may be NULL */
    /* Called once, before mail moves. Registers hooks and leaves in `state` what hooks and shutdown() get. Returns 0; any
     * other number keeps the engine from starting, and `why` should say what is wrong. */
    int (*init)(const sluice_host *host, void **state, char *why, size_t why_size);
    /* Called once after the last hook has returned, unless init() failed; may be NULL. Ends the plugin's threads: after
     * it nothing of the engine's may be used. The shared object stays in memory. */
    void (*shutdown)(void *state);
} sluice_plugin;

/* The one symbol that a plugin exports; SLUICE_PLUGIN defines it, at the end of one file. */
extern SLUICE_EXPORT const sluice_plugin sluice_plugin_entry;
#define SLUICE_PLUGIN(version, init, shutdown) \
    const sluice_plugin sluice_plugin_entry = { \
        (uint32_t)sizeof(sluice_plugin), SLUICE_PLUGIN_ABI, version, init, shutdown}

#ifdef __cplusplus
}
#endif

#endif
