/*
 * A native plugin in C: who may get mail stands in a file. config/known_recipients has lines of a domain or an address,
 *
 *     other.test              everybody there
 *     joe@example.test        at example.test nobody else
 *
 * Recipients of a domain that stands there with addresses only are refused while the client waits, unless they are listed;
 * other domains are nobody's business here. Each message says in its header how many recipients it was taken for. The file is
 * read at the start.
 */

#include <sluice/plugin.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

typedef struct known {
    const sluice_host *host;
    sluice_config *config;
} known;

static char lower(char letter) { return letter >= 'A' && letter <= 'Z' ? (char)(letter + 32) : letter; }

static int same(const char *one, const char *other, size_t size) {
    for (size_t i = 0; i < size; ++i) {
        if (lower(one[i]) != lower(other[i])) return 0;
    }
    return 1;
}

/* Whether `line` ends in this domain, with an address before it or not. */
static int is_of_domain(sluice_text line, sluice_text domain) {
    if (line.size < domain.size || !same(line.data + line.size - domain.size, domain.data, domain.size)) return 0;
    return line.size == domain.size || line.data[line.size - domain.size - 1] == '@';
}

static int is_address(sluice_text line, const sluice_address *address) {
    return line.size == address->local.size + 1 + address->domain.size && same(line.data, address->local.data, address->local.size);
}

static int32_t rcpt(void *state, sluice_call *call, const sluice_event *event) {
    const known *all = state;
    const sluice_address *address = &event->rcpt->address;
    int domain_is_listed = 0;
    sluice_config_entry entry = {.size = sizeof entry};
    for (size_t i = 0; all->host->config_entry(all->config, i, &entry) == 0; ++i) {
        if (!is_of_domain(entry.value, address->domain)) continue;
        if (entry.value.size == address->domain.size || is_address(entry.value, address)) return SLUICE_CONT;
        domain_is_listed = 1;
    }
    if (!domain_is_listed) return SLUICE_CONT;
    static const char words[] = "5.1.1 nobody of that name is here";
    const sluice_answer answer = {.size = sizeof answer, .code = SLUICE_DENY, .reason = {words, sizeof words - 1}};
    return all->host->reply(call, &answer);
}

static int32_t data_post(void *state, sluice_call *call, const sluice_event *event) {
    const known *all = state;
    char count[32];
    const int size = snprintf(count, sizeof count, "%u", (unsigned)event->transaction->recipient_count);
    const sluice_header header = {.size = sizeof header, .name = {"X-Known-Recipients", 18}, .value = {count, (size_t)size}};
    const sluice_answer answer = {.size = sizeof answer, .code = SLUICE_CONT, .headers = &header, .header_count = 1};
    return all->host->reply(call, &answer);
}

static void shutdown(void *state) {
    known *all = state;
    all->host->config_free(all->config);
    free(all);
}

static int init(const sluice_host *host, void **state, char *why, size_t why_size) {
    known *all = calloc(1, sizeof *all);
    if (all == NULL) return -1;
    all->host = host;
    all->config = host->config(host, "known_recipients", SLUICE_LIST, why, why_size);
    if (all->config == NULL || host->listen(host, SLUICE_HOOK_RCPT, rcpt, 0, 0) != 0 ||
        host->listen(host, SLUICE_HOOK_DATA_POST, data_post, 0, 0) != 0) {
        host->config_free(all->config);
        free(all);
        return -1;
    }
    *state = all;
    return 0;
}

SLUICE_PLUGIN("1.0", init, shutdown);
