/*
 * A plugin for tests: what each hook does stands in config/probe.ini, in a section for each hook and domain or for the hook.
 * In hooks of mail in, what stands for the domain is the local part of the recipient, or else of the sender, or else what
 * the client calls itself.
 *
 *     [get_mx]
 *     code = 906
 *     how = sync            or: async, silent, twice, blocking, no_ticket, crash
 *     next_hop = 127.0.0.1:2525
 *     delay_ms = 1000
 *     reason = text
 *     notes = {"seen": 1}
 *     priority = 5
 *     header = name         with the value "as NAME says", NAME being the plugin's
 *     first = 1             above the others
 *     reply_code = 551
 *     relay = 1             or 0
 *     look = text           says in probe.said whether the message contains it
 *
 * What it was told goes to the file probe.said of the instance, a line for each call.
 */

#include <pthread.h>
#include <sluice/plugin.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static const char *const names[] = {
    NULL,        "send_email", "get_mx",               "deferred", "bounce",            "delivered", "lookup_rdns", "connect",
    "helo",      "ehlo",       "capabilities",         "unrecognized_command",          "mail",      "rcpt",        "rcpt_ok",
    "data",      "data_post",  "queue",                "queue_outbound",                "queue_ok",  "pre_send_trans_email",
    "deny",      "max_data_exceeded",                  "vrfy",     "noop",              "rset",      "quit",        "reset_transaction",
    "disconnect"};

typedef struct probe {
    const sluice_host *host;
    sluice_config *config;
    FILE *said;
    atomic_int answering; /* threads under way */
} probe;

typedef struct later {
    probe *of;
    sluice_ticket ticket;
    const sluice_event *event;
    int times;
} later;

static sluice_text subject(const sluice_event *event) {
    if (event->item != NULL) return event->item->domain;
    if (event->rcpt != NULL) return event->rcpt->address.local;
    if (event->transaction != NULL) return event->transaction->mail_from.local;
    return event->connection->hello;
}

static sluice_text setting(const probe *of, const sluice_event *event, const char *key) {
    char section[512];
    const sluice_text about = subject(event);
    snprintf(section, sizeof section, "%s %.*s", names[event->hook], (int)about.size, about.data);
    const sluice_text own = of->host->config_get(of->config, section, key);
    return own.data != NULL ? own : of->host->config_get(of->config, names[event->hook], key);
}

static long number(const probe *of, const sluice_event *event, const char *key, long otherwise) {
    const sluice_text text = setting(of, event, key);
    return text.data == NULL ? otherwise : strtol(text.data, NULL, 10);
}

static int is(sluice_text text, const char *word) {
    return text.data != NULL && text.size == strlen(word) && memcmp(text.data, word, text.size) == 0;
}

static int contains(sluice_text whole, sluice_text part) {
    if (part.data == NULL) return 0;
    for (size_t at = 0; at + part.size <= whole.size; ++at) {
        if (memcmp(whole.data + at, part.data, part.size) == 0) return 1;
    }
    return 0;
}

static void say_text(probe *of, const char *name, sluice_text text) {
    fprintf(of->said, " %s=%.*s", name, (int)text.size, text.data);
}

static void say_connection(probe *of, const sluice_connection *connection) {
    say_text(of, "ip", connection->remote_ip);
    say_text(of, "local", connection->local_ip);
    say_text(of, "rdns", connection->rdns);
    say_text(of, connection->extended ? "ehlo" : "helo", connection->hello);
    say_text(of, "tls", connection->tls_version);
    say_text(of, "user", connection->auth_user);
    fprintf(
        of->said, " relaying=%u errors=%u ports=%d", connection->relaying, connection->errors,
        connection->remote_port != 0 && connection->local_port != 0);
}

static void say_transaction(probe *of, const sluice_event *event) {
    const sluice_transaction *transaction = event->transaction;
    const sluice_content content = of->host->content(event);
    say_text(of, "from", transaction->mail_from.local);
    say_text(of, "body", transaction->body);
    say_text(of, "envid", transaction->envid);
    fprintf(
        of->said, " number=%u declared=%lu octets=%d message=%d found=%d to=", transaction->number,
        (unsigned long)transaction->declared_octets, transaction->octets == content.received.size, transaction->message.size > 0,
        contains(content.received, setting(of, event, "look")));
    sluice_recipient recipient = {.size = sizeof recipient};
    for (uint32_t i = 0; of->host->recipient(event, i, &recipient) == 0; ++i) {
        fprintf(of->said, "%s%.*s", i == 0 ? "" : ",", (int)recipient.address.local.size, recipient.address.local.data);
    }
}

/* In a hook of mail in. */
static void say_visit(probe *of, const sluice_event *event) {
    flockfile(of->said);
    fprintf(of->said, "%s %s", names[event->hook], event->host->name);
    if (event->connection != NULL) say_connection(of, event->connection);
    if (event->transaction != NULL) say_transaction(of, event);
    if (event->rcpt != NULL) say_text(of, "rcpt", event->rcpt->address.local);
    say_text(of, "text", event->text);
    if (event->refused_code != 0) {
        say_text(of, "by", event->refused_by);
        fprintf(of->said, " refused=%d:%d", event->refused_hook, event->refused_code);
    }
    say_text(of, "notes", of->host->notes(event, 0));
    fputc('\n', of->said);
    fflush(of->said);
    funlockfile(of->said);
}

static void say(probe *of, const sluice_event *event) {
    const sluice_item *item = event->item;
    if (item == NULL) {
        say_visit(of, event);
        return;
    }
    const sluice_text notes = of->host->notes(event, 0);
    const sluice_content content = of->host->content(event);
    flockfile(of->said);
    fprintf(
        of->said, "%s %.*s domain=%.*s from=%.*s@%.*s attempts=%u octets=%d notes=%.*s reason=%.*s ip=%.*s port=%u response=%.*s to=",
        names[event->hook], (int)strlen(event->host->name), event->host->name, (int)item->domain.size, item->domain.data,
        (int)item->mail_from.local.size, item->mail_from.local.data, (int)item->mail_from.domain.size, item->mail_from.domain.data,
        item->attempts, content.added.size + content.received.size == item->octets, (int)notes.size, notes.data,
        (int)event->reason.size, event->reason.data, (int)event->ip.size, event->ip.data, event->port, (int)event->response.size,
        event->response.data);
    sluice_recipient recipient = {.size = sizeof recipient};
    for (uint32_t i = 0; of->host->recipient(event, i, &recipient) == 0; ++i) {
        fprintf(
            of->said, "%s%.*s:%u:%.*s", i == 0 ? "" : ",", (int)recipient.address.local.size, recipient.address.local.data,
            recipient.code, (int)recipient.status.size, recipient.status.data);
    }
    fputc('\n', of->said);
    fflush(of->said);
    funlockfile(of->said);
}

/* What an answer points to. */
typedef struct parts {
    sluice_mx mx;
    sluice_header header;
    char value[64];
} parts;

static void fill(const probe *of, const sluice_event *event, sluice_answer *answer, parts *parts) {
    sluice_mx *mx = &parts->mx;
    const sluice_text relay = setting(of, event, "relay");
    snprintf(parts->value, sizeof parts->value, "as %s says", event->host->name);
    parts->header = (sluice_header){
        .size = sizeof parts->header,
        .first = (uint32_t)number(of, event, "first", 0),
        .name = setting(of, event, "header"),
        .value = {parts->value, strlen(parts->value)},
    };
    *mx = (sluice_mx){.size = sizeof *mx, .next_hop = setting(of, event, "next_hop")};
    *answer = (sluice_answer){
        .size = sizeof *answer,
        .code = (int32_t)number(of, event, "code", SLUICE_CONT),
        .reason = setting(of, event, "reason"),
        .delay_ms = number(of, event, "delay_ms", 0),
        .mx = mx,
        .mx_count = mx->next_hop.data == NULL ? 0 : 1,
        .notes = setting(of, event, "notes"),
        .flags = relay.data == NULL ? 0 : is(relay, "1") ? SLUICE_RELAY : SLUICE_DO_NOT_RELAY,
        .headers = &parts->header,
        .header_count = parts->header.name.data == NULL ? 0 : 1,
        .reply_code = (uint32_t)number(of, event, "reply_code", 0),
    };
}

static void *answer_later(void *argument) {
    later *call = argument;
    parts parts;
    sluice_answer answer;
    fill(call->of, call->event, &answer, &parts);
    usleep((useconds_t)number(call->of, call->event, "after_ms", 5) * 1000);
    int counted = 0;
    for (int i = 0; i < call->times; ++i) counted += call->of->host->answer(call->of->host, call->ticket, &answer);
    flockfile(call->of->said);
    fprintf(call->of->said, "answered %d of %d\n", counted, call->times);
    fflush(call->of->said);
    funlockfile(call->of->said);
    call->of->host->release(call->event);
    atomic_fetch_sub(&call->of->answering, 1);
    free(call);
    return NULL;
}

static int32_t begin_later(probe *of, sluice_call *handle, const sluice_event *event, int times) {
    later *call = calloc(1, sizeof *call);
    pthread_t thread;
    if (call == NULL) return SLUICE_CONT;
    *call = (later){of, of->host->later(handle), of->host->keep(event), times};
    atomic_fetch_add(&of->answering, 1);
    if (pthread_create(&thread, NULL, answer_later, call) != 0) abort();
    pthread_detach(thread);
    return SLUICE_PENDING;
}

static int32_t hook(void *state, sluice_call *call, const sluice_event *event) {
    probe *of = state;
    const sluice_text how = setting(of, event, "how");
    say(of, event);
    if (is(how, "async")) return begin_later(of, call, event, 1);
    if (is(how, "twice")) return begin_later(of, call, event, 2);
    if (is(how, "no_ticket")) return SLUICE_PENDING;
    if (is(how, "silent")) {
        of->host->later(call);
        return SLUICE_PENDING;
    }
    if (is(how, "blocking")) usleep((useconds_t)number(of, event, "after_ms", 5) * 1000);
    if (is(how, "crash")) abort();
    parts parts;
    sluice_answer answer;
    fill(of, event, &answer, &parts);
    return of->host->reply(call, &answer);
}

static int listen_to(probe *of, int32_t which) {
    const sluice_text code = of->host->config_get(of->config, names[which], "code");
    const sluice_text how = of->host->config_get(of->config, names[which], "how");
    const sluice_text priority = of->host->config_get(of->config, names[which], "priority");
    if (code.data == NULL) return 0;
    const int32_t order = priority.data == NULL ? 0 : (int32_t)strtol(priority.data, NULL, 10);
    return of->host->listen(of->host, which, hook, order, is(how, "blocking") ? SLUICE_MAY_BLOCK : 0);
}

static void forget(probe *of) {
    if (of->said != NULL) fclose(of->said);
    if (of->config != NULL) of->host->config_free(of->config);
    free(of);
}

/* Whoever does not begin leaves nothing behind: the engine goes on without it. */
static int give_up(probe *of, int code) {
    forget(of);
    return code;
}

static int init(const sluice_host *host, void **state, char *why, size_t why_size) {
    probe *of = calloc(1, sizeof *of);
    if (of == NULL) return -1;
    char file[4096];
    /* "probe" and "probe2" are the same object under two names. */
    snprintf(file, sizeof file, "%s.ini", host->name);
    of->host = host;
    of->config = host->config(host, file, SLUICE_INI, why, why_size);
    if (of->config == NULL) return give_up(of, -1);
    const sluice_text fails = host->config_get(of->config, NULL, "fails");
    if (fails.data != NULL) {
        snprintf(why, why_size, "%.*s", (int)fails.size, fails.data);
        return give_up(of, 7);
    }
    snprintf(file, sizeof file, "%s/probe.said", host->directory);
    of->said = fopen(file, "a");
    if (of->said == NULL) {
        snprintf(why, why_size, "%s cannot be written", file);
        return give_up(of, -1);
    }
    for (int32_t which = SLUICE_HOOK_SEND_EMAIL; which <= SLUICE_HOOK_DISCONNECT; ++which) {
        if (listen_to(of, which) != 0) {
            snprintf(why, why_size, "listen() refuses %s", names[which]);
            return give_up(of, -1);
        }
    }
    const sluice_text line = {"the probe is there", 18};
    host->log(host, 6, line);
    *state = of;
    return 0;
}

static void shutdown(void *state) {
    probe *of = state;
    while (atomic_load(&of->answering) > 0) usleep(1000);
    fputs("shutdown\n", of->said);
    forget(of);
}

#ifdef PROBE_OF_ANOTHER_VERSION
SLUICE_EXPORT const sluice_plugin sluice_plugin_entry = {sizeof(sluice_plugin), SLUICE_PLUGIN_ABI + 1, "9", init, shutdown};
#elif defined(PROBE_WITHOUT_ENTRY)
SLUICE_EXPORT void nothing_of_use(void);
void nothing_of_use(void) { (void)init; (void)shutdown; }
#else
SLUICE_PLUGIN("1", init, shutdown);
#endif
