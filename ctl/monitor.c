/* SPDX-License-Identifier: Apache-2.0 */
/* berth hub monitor: telemetry as it arrives, from one hub or from all, each on a thread of its own. */
#include <pthread.h>
#include <stdlib.h>

#include "base/limits.h"
#include "base/text.h"
#include "ctl/ctl.h"

#define HUBS_MAX 50u

struct monitor;
struct tap { /* one hub */
    struct monitor *m;
    struct service *s;
    unsigned index;
    pthread_t thread;
    bool is_running;
    char *path;
    enum err result;
    struct err_info info;
};

struct monitor {
    const struct cli_args *a;
    pthread_mutex_t lock; /* output and what follows */
    uint64_t left;        /* UINT64_MAX: no bound */
    uint64_t seen;
    bool is_over;
    struct tap tap[HUBS_MAX];
};

static void print_pairs(const struct json *o)
{
    struct json_cursor c = {0};
    struct span name;
    struct json *v;
    while (json_next(o, &c, &name, &v)) {
        putchar(' ');
        cli_print_safe(stdout, name);
        putchar('=');
        cli_print_safe(stdout, json_is(v, JSON_T_STR) ? json_str(v) : SPAN_LIT("null"));
    }
}

static void print_row(const struct tap *t, const struct json *j)
{
    cli_print_safe(stdout, json_str(json_get(j, "enqueuedTimeUtc")));
    printf("  hub%u/%lld#%lld  ", t->index + 1, (long long)json_int(json_get(j, "partition")),
           (long long)json_int(json_get(j, "sequenceNumber")));
    cli_print_safe(stdout, json_str(json_get(j, "deviceId")));
    printf("  ");
    if (span_is(json_str(json_get(j, "bodyEncoding")), "base64")) {
        printf("base64:");
    }
    cli_print_safe(stdout, json_str(json_get(j, "body")));
    print_pairs(json_get(j, "properties"));
    putchar('\n');
}

static bool is_over(struct monitor *m)
{
    pthread_mutex_lock(&m->lock);
    bool yes = m->is_over;
    pthread_mutex_unlock(&m->lock);
    return yes;
}

static bool on_line(void *arg, struct span line)
{
    struct tap *t = arg;
    struct monitor *m = t->m;
    if (cli_interrupted) {
        return false;
    }
    if (span_trim(line).n == 0) {
        return !is_over(m);
    }
    AUTO(json_free_p) struct json *j = NULL;
    struct err_info info = {0};
    enum err e = json_read_object(line, 8u * LIMIT_D2C_MESSAGE, &j, &info);
    if (e != OK) {
        (void)err_wrap(&info, e, "a line of hub%u cannot be shown", t->index + 1);
        (void)cli_fail(e, &info); /* said on standard error; the next ones may be good */
        return true;
    }
    pthread_mutex_lock(&m->lock);
    if (!m->is_over) {
        if (m->a->is_json) {
            ctl_print_json(stdout, j);
        } else {
            print_row(t, j);
        }
        (void)fflush(stdout);
        m->seen++;
        m->is_over = m->seen >= m->left;
    }
    bool go_on = !m->is_over;
    pthread_mutex_unlock(&m->lock);
    return go_on;
}

static void *run_tap(void *arg)
{
    struct tap *t = arg;
    t->result = service_stream(t->s, t->path, SERVICE_ADMIN_VERSION, on_line, t, &t->info);
    return NULL;
}

static enum err make_path(const struct cli_args *a, const char *from, char **ret)
{
    AUTO(buf_done) struct buf b = BUF_INIT(4096);
    const char *device = cli_get(a, "device"), *partition = cli_get(a, "partition");
    buf_add_str(&b, "/messages/events?from=");
    percent_add(&b, span_str(from));
    buf_addf(&b, "&follow=%s", cli_has(a, "no-follow") ? "false" : "true");
    if (device != NULL) {
        buf_add_str(&b, "&device=");
        percent_add(&b, span_str(device));
    }
    if (partition != NULL) {
        buf_add_str(&b, "&partition=");
        percent_add(&b, span_str(partition));
    }
    *ret = buf_take_str(&b);
    return *ret != NULL ? OK : E_NOMEM;
}

static enum err open_taps(struct monitor *m, size_t first, size_t n, struct err_info *info)
{
    const char *from = cli_get(m->a, "from");
    enum err e = OK;
    for (size_t i = 0; e == OK && i < n; i++) {
        struct tap *t = &m->tap[i];
        t->m = m;
        t->index = (unsigned)(first + i);
        if ((e = ctl_connect(m->a, CTL_HUB, t->index, &t->s, info)) == OK) {
            e = make_path(m->a, from != NULL ? from : "latest", &t->path);
        }
    }
    return e;
}

/* With several hubs one may be silent when the count is reached: it is not waited for longer than its next line. */
static enum err run_taps(struct monitor *m, size_t n, struct err_info *info)
{
    if (n == 1) {
        (void)run_tap(&m->tap[0]);
    } else {
        for (size_t i = 0; i < n; i++) {
            m->tap[i].is_running =
                pthread_create(&m->tap[i].thread, NULL, run_tap, &m->tap[i]) == 0;
        }
        for (size_t i = 0; i < n; i++) {
            while (m->tap[i].is_running) {
                struct timespec until;
                (void)clock_gettime(CLOCK_REALTIME, &until);
                until.tv_sec += 1;
                bool joined = pthread_timedjoin_np(m->tap[i].thread, NULL, &until) == 0;
                bool is_enough = is_over(m) || cli_interrupted;
                m->tap[i].is_running = !joined;
                if (is_enough && !joined) {
                    return OK; /* the process ends; the thread holds nothing that must be written */
                }
            }
        }
    }
    for (size_t i = 0; i < n; i++) {
        if (m->tap[i].result != OK && m->tap[i].result != E_CLOSED) {
            *info = m->tap[i].info;
            return m->tap[i].result;
        }
    }
    return OK;
}

static int run_monitor(struct cli_args *a)
{
    static struct monitor m; /* threads may outlive this call by a moment */
    struct err_info info = {0};
    uint64_t hub = 1, count = UINT64_MAX;
    size_t n = 1;
    if (!cli_number(a, "hub", 1, HUBS_MAX, &hub) ||
        !cli_number(a, "count", 1, UINT64_MAX, &count)) {
        return cli_failf(EXIT_USAGE, "--hub or --count is out of range");
    }
    m.a = a;
    m.left = count;
    pthread_mutex_init(&m.lock, NULL);
    enum err e = OK;
    if (cli_has(a, "all-hubs")) {
        e = ctl_env_hubs(a, &n, &info);
        n = MIN(n, (size_t)HUBS_MAX);
        hub = 1;
    }
    if (e == OK && (e = open_taps(&m, (size_t)hub - 1, n, &info)) == OK) {
        e = run_taps(&m, n, &info);
    }
    if (e != OK) {
        return cli_fail(e, &info);
    }
    return cli_interrupted && count != UINT64_MAX ? EXIT_INTERRUPTED : EXIT_DONE;
}

/* clang-format off */
static const struct cli_option monitor_options[] = {
    CTL_CONNECT_OPTIONS,
    { "hub", "N", "Which hub of the environment file, from 1 (1)." },
    { "all-hubs", NULL, "All hubs of the environment file." },
    { "device", "ID", "Only this device." },
    { "partition", "N", "Only this partition." },
    { "from", "P", "earliest, latest, a sequence number, or an ISO 8601 time (latest)." },
    { "no-follow", NULL, "End at the last message that is there." },
    { "count", "N", "End after N messages." },
};
/* clang-format on */
const struct cli_command ctl_hub_monitor = {
    "hub monitor",
    "[--hub N | --all-hubs] [--device ID] [--from P] [--no-follow] [--count N] [--json]",
    "Show telemetry as it arrives.",
    monitor_options,
    ARRAY_LEN(monitor_options),
    0,
    0,
    run_monitor};
