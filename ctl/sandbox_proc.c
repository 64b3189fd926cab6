/* SPDX-License-Identifier: Apache-2.0 */
#include "ctl/sandbox.h"

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/fs.h"
#include "base/limits.h"

#define READY_WAIT_MS 20000u

/* --- who runs --------------------------------------------------------------------------------------------------- */

uint64_t sandbox_start_of_line(struct span line)
{
    /* The name stands in parentheses and may hold anything: fields are counted behind the last one. */
    size_t at = line.n;
    while (at > 0 && line.p[at - 1] != ')') {
        at--;
    }
    if (at == 0) {
        return 0;
    }
    struct span rest = span_trim(span_from(line, at));
    struct span state = span_cut(&rest, ' ');
    uint64_t v = 0;
    for (unsigned field = 4; field <= 22; field++) {
        struct span word = span_cut(&rest, ' ');
        if (field == 22 && !span_to_u64(word, &v)) {
            return 0;
        }
    }
    return span_is(state, "Z") ? 0 : v;
}

uint64_t sandbox_start_of(int64_t pid)
{
    char path[64];
    char text[1024];
    (void)snprintf(path, sizeof(path), "/proc/%lld/stat", (long long)pid);
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    ssize_t n = fd >= 0 ? read(fd, text, sizeof(text)) : -1;
    if (fd >= 0) {
        (void)close(fd);
    }
    return n > 0 ? sandbox_start_of_line(span_of(text, (size_t)n)) : 0;
}

static bool is_alive(const struct sandbox_server *s)
{
    return s->pid > 0 && sandbox_start_of(s->pid) == s->start && s->start != 0;
}

enum err sandbox_load_pids(struct sandbox *sb, struct err_info *info)
{
    AUTO(mem_free_p) char *path = sandbox_path(sb, "pids.json");
    AUTO(buf_done) struct buf text = BUF_INIT(LIMIT_FILE_SMALL);
    AUTO(json_free_p) struct json *j = NULL;
    if (path == NULL) {
        return E_NOMEM;
    }
    if (!fs_exists(path)) {
        return OK;
    }
    enum err e = fs_read(path, &text, info);
    if (e != OK || (e = json_read_object(buf_span(&text), LIMIT_FILE_SMALL, &j, info)) != OK) {
        return e;
    }
    for (unsigned i = 0; i < sb->n; i++) {
        struct sandbox_server *s = &sb->server[i];
        const struct json *row = json_get(j, s->name);
        s->pid = json_int(json_get(row, "pid"));
        s->start = (uint64_t)json_int(json_get(row, "start"));
        if (!is_alive(s)) {
            s->pid = 0;
        }
    }
    return OK;
}

enum err sandbox_save_pids(const struct sandbox *sb, struct err_info *info)
{
    AUTO(mem_free_p) char *path = sandbox_path(sb, "pids.json");
    AUTO(buf_done) struct buf text = BUF_INIT(LIMIT_FILE_SMALL);
    buf_add_u8(&text, '{');
    for (unsigned i = 0; i < sb->n; i++) {
        const struct sandbox_server *s = &sb->server[i];
        buf_addf(&text, "%s\"%s\":{\"pid\":%lld,\"start\":%llu}", i > 0 ? "," : "", s->name,
                 (long long)s->pid, (unsigned long long)s->start);
    }
    buf_add_str(&text, "}\n");
    return path == NULL           ? E_NOMEM
           : buf_err(&text) != OK ? buf_err(&text)
                                  : fs_write_atomic(path, buf_span(&text), 0600, info);
}

/* --- before the start ----------------------------------------------------------------------------------------------- */

static bool somebody_listens(const char *address, uint16_t port)
{
    struct sockaddr_in to = {.sin_family = AF_INET, .sin_port = htons(port)};
    (void)inet_pton(AF_INET, address, &to.sin_addr);
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    bool yes = fd >= 0 && connect(fd, (const struct sockaddr *)&to, sizeof(to)) == 0;
    if (fd >= 0) {
        (void)close(fd);
    }
    return yes;
}

enum err sandbox_check_ports(const struct sandbox *sb, unsigned i, struct err_info *info)
{
    const uint16_t ports[] = {sb->https_port, sb->mqtts_port};
    for (size_t k = 0; k < ARRAY_LEN(ports); k++) {
        if (somebody_listens(sb->server[i].address, ports[k])) {
            return err_set(info, E_IN_USE,
                           "%s:%u is in use by another process (find it with: ss -ltnp 'sport = "
                           ":%u'); stop it, or choose other "
                           "addresses with --address 127.0.1.1",
                           sb->server[i].address, ports[k], ports[k]);
        }
    }
    return OK;
}

/* --- starting ----------------------------------------------------------------------------------------------------------- */

static char *log_path(const struct sandbox *sb, unsigned i)
{
    char name[40];
    (void)snprintf(name, sizeof(name), "log/%s.log", sb->server[i].name);
    return sandbox_path(sb, name);
}

/* What the program said last, for people. */
static void last_words(const struct sandbox *sb, unsigned i, char *dst, size_t n)
{
    AUTO(mem_free_p) char *path = log_path(sb, i);
    char text[2048];
    dst[0] = '\0';
    int fd = path != NULL ? open(path, O_RDONLY | O_CLOEXEC) : -1;
    if (fd < 0) {
        return;
    }
    off_t end = lseek(fd, 0, SEEK_END);
    (void)lseek(fd, end > (off_t)sizeof(text) ? end - (off_t)sizeof(text) : 0, SEEK_SET);
    ssize_t got = read(fd, text, sizeof(text));
    (void)close(fd);
    struct span s = span_of(text, got > 0 ? (size_t)got : 0);
    while (s.n > 0 && s.p[s.n - 1] == '\n') {
        s.n--;
    }
    size_t from = s.n;
    while (from > 0 && s.p[from - 1] != '\n') {
        from--;
    }
    struct span line = span_from(s, from);
    /* A log line: its reason is what people want to read. */
    static const char why[] = " why=\"";
    const uint8_t *p = line.n > 0 ? memmem(line.p, line.n, why, sizeof(why) - 1) : NULL;
    if (p != NULL) {
        line = span_from(line, (size_t)(p - line.p) + sizeof(why) - 1);
        line.n -= line.n > 0 && line.p[line.n - 1] == '"' ? 1 : 0;
    }
    (void)span_to_cstr(span_sub(line, 0, n - 1), dst, n);
}

/* What to do about a privilege that is missing, for somebody without service units. */
static enum err did_not_start(const struct sandbox *sb, unsigned i, const char *words,
                              struct err_info *info)
{
    bool is_port = strstr(words, "ports below 1024") != NULL;
    return err_set(info, is_port ? E_PERM : E_STATE, "%s did not start: %s%s%s%s%s",
                   sb->server[i].name, words[0] != '\0' ? words : "it said nothing",
                   is_port ? "; or: sudo setcap cap_net_bind_service=+ep " : "",
                   is_port ? sb->bin_dps : "", is_port ? " " : "", is_port ? sb->bin_hub : "");
}

/* In the child, after fork. */
NORETURN static void become(const struct sandbox *sb, unsigned i, int log_fd, int ready_fd,
                            bool is_init)
{
    const char *prog = i == 0 ? sb->bin_dps : sb->bin_hub;
    AUTO(mem_free_p) char *conf = fs_join(sb->server[i].dir, "berth.conf");
    char fd_text[16];
    int null_fd = open("/dev/null", O_RDONLY);
    (void)setsid();
    if (null_fd < 0 || dup2(null_fd, 0) < 0 || dup2(log_fd, 1) < 0 || dup2(log_fd, 2) < 0) {
        _exit(127);
    }
    int at = 3;
    if (ready_fd >= 0) {
        if (ready_fd != at && dup2(ready_fd, at) < 0) {
            _exit(127);
        }
        (void)fcntl(at, F_SETFD, 0);
        at++;
    }
    (void)close_range((unsigned)at, ~0u, 0);
    (void)snprintf(fd_text, sizeof(fd_text), "%d", 3);
    if (is_init) {
        execl(prog, prog, "--config", conf, "--init", (char *)NULL);
    } else {
        execl(prog, prog, "--config", conf, "--ready-fd", fd_text, (char *)NULL);
    }
    _exit(127);
}

static enum err open_log(const struct sandbox *sb, unsigned i, int *ret, struct err_info *info)
{
    AUTO(mem_free_p) char *path = log_path(sb, i);
    int fd = path != NULL ? open(path, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC | O_NOFOLLOW, 0600)
                          : -1;
    if (fd < 0) {
        return err_set_errno(info, errno, "cannot open the log of %s", sb->server[i].name);
    }
    *ret = fd;
    return OK;
}

enum err sandbox_init_server(const struct sandbox *sb, unsigned i, struct err_info *info)
{
    AUTO(mem_free_p) char *done = fs_join(sb->server[i].dir, "data/init.json");
    int log_fd, status = 0;
    if (done == NULL || fs_exists(done)) {
        return done == NULL ? E_NOMEM : OK;
    }
    enum err e = open_log(sb, i, &log_fd, info);
    if (e != OK) {
        return e;
    }
    pid_t pid = fork();
    if (pid == 0) {
        become(sb, i, log_fd, -1, true);
    }
    (void)close(log_fd);
    if (pid < 0) {
        return err_set_errno(info, errno, "cannot start a process");
    }
    while (waitpid(pid, &status, 0) < 0 && errno == EINTR) {
    }
    if (!WIFEXITED(status) || WEXITSTATUS(status) != 0) {
        char words[512];
        last_words(sb, i, words, sizeof(words));
        return err_set(info, E_STATE, "%s --init failed: %s", sb->server[i].name, words);
    }
    return OK;
}

enum err sandbox_start(struct sandbox *sb, unsigned i, struct err_info *info)
{
    struct sandbox_server *s = &sb->server[i];
    int log_fd, ready[2];
    enum err e = open_log(sb, i, &log_fd, info);
    if (e != OK) {
        return e;
    }
    if (pipe2(ready, O_CLOEXEC) != 0) {
        (void)close(log_fd);
        return err_set_errno(info, errno, "pipe");
    }
    pid_t pid = fork();
    if (pid == 0) {
        become(sb, i, log_fd, ready[1], false);
    }
    (void)close(log_fd);
    (void)close(ready[1]);
    if (pid < 0) {
        (void)close(ready[0]);
        return err_set_errno(info, errno, "cannot start a process");
    }
    s->pid = pid;
    s->start = sandbox_start_of(pid);
    s->is_ours = true;
    s->ready_fd = ready[0];
    return OK;
}

enum err sandbox_wait_ready(struct sandbox *sb, unsigned i, struct err_info *info)
{
    struct sandbox_server *s = &sb->server[i];
    uint64_t until = clock_mono_ms(clock_system()) + READY_WAIT_MS;
    char text[16];
    ssize_t n = -1;
    if (s->ready_fd < 0) {
        return OK;
    }
    while (!cli_interrupted && clock_mono_ms(clock_system()) < until) {
        struct pollfd p = {s->ready_fd, POLLIN, 0};
        if (poll(&p, 1, 200) > 0) {
            n = read(s->ready_fd, text, sizeof(text));
            break;
        }
    }
    (void)close(s->ready_fd);
    s->ready_fd = -1;
    if (cli_interrupted) {
        return err_set(info, E_CLOSED, "interrupted");
    }
    if (n < 5 || memcmp(text, "ready", 5) != 0) {
        char words[512];
        last_words(sb, i, words, sizeof(words));
        return did_not_start(sb, i, words, info);
    }
    return OK;
}

/* --- stopping ------------------------------------------------------------------------------------------------------------- */

static bool any_alive(const struct sandbox *sb, bool only_ours)
{
    for (unsigned i = 0; i < sb->n; i++) {
        const struct sandbox_server *s = &sb->server[i];
        if (s->is_ours && s->pid > 0) {
            (void)waitpid((pid_t)s->pid, NULL, WNOHANG);
        }
        if ((!only_ours || s->is_ours) && is_alive(s)) {
            return true;
        }
    }
    return false;
}

static void signal_all(const struct sandbox *sb, bool only_ours, int sig)
{
    for (unsigned i = 0; i < sb->n; i++) {
        const struct sandbox_server *s = &sb->server[i];
        if ((!only_ours || s->is_ours) && is_alive(s)) {
            (void)kill((pid_t)s->pid, sig);
        }
    }
}

void sandbox_stop(struct sandbox *sb, bool only_ours, unsigned grace_ms)
{
    uint64_t until = clock_mono_ms(clock_system()) + grace_ms;
    signal_all(sb, only_ours, SIGTERM);
    while (any_alive(sb, only_ours)) {
        const struct timespec ts = {0, 10 * 1000 * 1000};
        (void)nanosleep(&ts, NULL);
        if (clock_mono_ms(clock_system()) > until) {
            signal_all(sb, only_ours, SIGKILL);
            until = UINT64_MAX;
        }
    }
    for (unsigned i = 0; i < sb->n; i++) {
        if (!only_ours || sb->server[i].is_ours) {
            sb->server[i].pid = 0;
            sb->server[i].start = 0;
        }
    }
}
