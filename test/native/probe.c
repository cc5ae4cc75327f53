/*
 * A plugin for tests: what each hook does stands in config/probe.ini, in a section for each hook and domain or for the hook:
 *
 *     [get_mx]
 *     code = 906
 *     how = sync            or: async, silent, twice, blocking, no_ticket
 *     next_hop = 127.0.0.1:2525
 *     delay_ms = 1000
 *     reason = text
 *     notes = {"seen": 1}
 *     priority = 5
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

static const char *const names[] = {NULL, "send_email", "get_mx", "deferred", "bounce", "delivered"};

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

static sluice_text setting(const probe *of, const sluice_event *event, const char *key) {
    char section[512];
    snprintf(
        section, sizeof section, "%s %.*s", names[event->hook], (int)event->item->domain.size, event->item->domain.data);
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

static void say(probe *of, const sluice_event *event) {
    const sluice_item *item = event->item;
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

static void fill(const probe *of, const sluice_event *event, sluice_answer *answer, sluice_mx *mx) {
    *mx = (sluice_mx){.size = sizeof *mx, .next_hop = setting(of, event, "next_hop")};
    *answer = (sluice_answer){
        .size = sizeof *answer,
        .code = (int32_t)number(of, event, "code", SLUICE_CONT),
        .reason = setting(of, event, "reason"),
        .delay_ms = number(of, event, "delay_ms", 0),
        .mx = mx,
        .mx_count = mx->next_hop.data == NULL ? 0 : 1,
        .notes = setting(of, event, "notes"),
    };
}

static void *answer_later(void *argument) {
    later *call = argument;
    sluice_mx mx;
    sluice_answer answer;
    fill(call->of, call->event, &answer, &mx);
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
    sluice_mx mx;
    sluice_answer answer;
    fill(of, event, &answer, &mx);
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
    for (int32_t which = SLUICE_HOOK_SEND_EMAIL; which <= SLUICE_HOOK_DELIVERED; ++which) {
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
