/*
 * A native plugin in C: where mail goes stands in a file. config/static_routes has lines of a domain and a next hop,
 *
 *     example.test        192.0.2.1:25
 *     .example.org        lmtp://mail.example.net     (every domain below example.org)
 *
 * with next hops as in relay_dest_domains.ini. Other domains go their own way. The file is read at the start.
 */

#include <sluice/plugin.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

typedef struct route {
    sluice_text domain, next_hop; /* in the configuration */
} route;

typedef struct routes {
    const sluice_host *host;
    sluice_config *config;
    route *sorted;
    size_t count;
} routes;

static int compare_texts(sluice_text one, sluice_text other) {
    const size_t shorter = one.size < other.size ? one.size : other.size;
    const int order = shorter == 0 ? 0 : memcmp(one.data, other.data, shorter);
    if (order != 0 || one.size == other.size) return order;
    return one.size < other.size ? -1 : 1;
}

static int compare_routes(const void *one, const void *other) {
    return compare_texts(((const route *)one)->domain, ((const route *)other)->domain);
}

static const route *find(const routes *all, sluice_text domain) {
    const route wanted = {domain, {NULL, 0}};
    if (all->count == 0) return NULL;
    return bsearch(&wanted, all->sorted, all->count, sizeof *all->sorted, compare_routes);
}

/* The domain itself, or else the longest ".suffix" of it. */
static const route *route_of(const routes *all, sluice_text domain) {
    const route *found = find(all, domain);
    for (size_t at = 1; found == NULL && at < domain.size; ++at) {
        const sluice_text suffix = {domain.data + at, domain.size - at};
        if (*suffix.data == '.') found = find(all, suffix);
    }
    return found;
}

static int32_t get_mx(void *state, sluice_call *call, const sluice_event *event) {
    const routes *all = state;
    const route *found = route_of(all, event->item->domain);
    if (found == NULL) return SLUICE_CONT;
    const sluice_mx mx = {.size = sizeof mx, .next_hop = found->next_hop};
    const sluice_answer answer = {.size = sizeof answer, .code = SLUICE_OK, .mx = &mx, .mx_count = 1};
    return all->host->reply(call, &answer);
}

static int is_blank(char letter) { return letter == ' ' || letter == '\t'; }

/* "domain blanks next-hop"; 0: it is not that. */
static int read_line(sluice_text line, route *to) {
    size_t end = 0;
    while (end < line.size && !is_blank(line.data[end])) ++end;
    size_t next = end;
    while (next < line.size && is_blank(line.data[next])) ++next;
    to->domain = (sluice_text){line.data, end};
    to->next_hop = (sluice_text){line.data + next, line.size - next};
    return end > 0 && next < line.size;
}

static void shutdown(void *state) {
    routes *all = state;
    all->host->config_free(all->config);
    free(all->sorted);
    free(all);
}

static int init(const sluice_host *host, void **state, char *why, size_t why_size) {
    sluice_config *config = host->config(host, "static_routes", SLUICE_LIST, why, why_size);
    if (config == NULL) return -1;
    routes *all = calloc(1, sizeof *all);
    if (all == NULL) return -1;
    all->host = host;
    all->config = config;
    all->sorted = calloc(host->config_count(config) + 1, sizeof *all->sorted);
    sluice_config_entry entry = {.size = sizeof entry};
    for (size_t i = 0; all->sorted != NULL && host->config_entry(config, i, &entry) == 0; ++i) {
        if (!read_line(entry.value, &all->sorted[all->count++])) {
            snprintf(why, why_size, "config/static_routes:%d: expected a domain and a next hop", (int)entry.line);
            shutdown(all);
            return -1;
        }
    }
    if (all->count > 0) qsort(all->sorted, all->count, sizeof *all->sorted, compare_routes);
    *state = all;
    return host->listen(host, SLUICE_HOOK_GET_MX, get_mx, 0, 0);
}

SLUICE_PLUGIN("1.0", init, shutdown);
