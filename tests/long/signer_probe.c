/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What a process that was taken over would try against berth-signer, one line each: "NAME refused" or "NAME allowed". Run by
 * 50-signer-unit.sh.
 *   signer_probe outside PID SOCKET DIR    as the user of the front servers: its memory, its files, its process, its socket
 *   signer_probe inside                    in the signer's place, under its unit's settings: what leads out of it
 */
#define _GNU_SOURCE
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/ptrace.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

static void tell(const char *name, int is_allowed)
{
    int e = errno;
    printf("%s %s (%s)\n", name, is_allowed ? "allowed" : "refused", is_allowed ? "" : strerror(e));
    fflush(stdout);
}

static int reads(const char *path)
{
    char b[1];
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    int good = fd >= 0 && read(fd, b, 1) >= 0;
    if (fd >= 0) {
        (void)close(fd);
    }
    return good;
}

static int writes(const char *path)
{
    int fd = open(path, O_WRONLY | O_CREAT | O_CLOEXEC, 0600);
    if (fd >= 0) {
        (void)close(fd);
        (void)unlink(path);
    }
    return fd >= 0;
}

static int lists(const char *path)
{
    DIR *d = opendir(path);
    if (d != NULL) {
        (void)closedir(d);
    }
    return d != NULL;
}

static int peeks(pid_t pid)
{
    char b[16];
    struct iovec to = {b, sizeof(b)}, from = {(void *)0x400000, sizeof(b)};
    return process_vm_readv(pid, &to, 1, &from, 1, 0) >= 0;
}

/* Is the connection kept? Who may not ask finds it closed. */
static int is_heard(const char *path)
{
    struct sockaddr_un a = {.sun_family = AF_UNIX};
    char b[16];
    int fd = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0);
    struct timeval tv = {.tv_sec = 3};
    (void)strncpy(a.sun_path, path, sizeof(a.sun_path) - 1);
    (void)setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &tv, sizeof(tv));
    if (connect(fd, (struct sockaddr *)&a, sizeof(a)) != 0) {
        return 0;
    }
    ssize_t n = recv(fd, b, sizeof(b), 0);
    int good = n > 0 || (n < 0 && (errno == EAGAIN || errno == EWOULDBLOCK));
    errno = good ? 0 : n == 0 ? ECONNRESET : errno;
    (void)close(fd);
    return good;
}

static int outside(pid_t pid, const char *sock, const char *dir)
{
    static const char *const proc[] = {"environ", "mem", "maps", "stack"};
    static const char *const files[] = {"master.key", "lock", ""};
    char path[4096], name[64];
    for (size_t i = 0; i < sizeof(proc) / sizeof(proc[0]); i++) {
        (void)snprintf(path, sizeof(path), "/proc/%d/%s", (int)pid, proc[i]);
        (void)snprintf(name, sizeof(name), "proc-%s", proc[i]);
        tell(name, reads(path));
    }
    (void)snprintf(path, sizeof(path), "/proc/%d/fd", (int)pid);
    tell("proc-fd", lists(path));
    (void)snprintf(path, sizeof(path), "/proc/%d/root/etc/passwd", (int)pid);
    tell("proc-root", reads(path));
    tell("ptrace", ptrace(PTRACE_SEIZE, pid, 0, 0) == 0);
    tell("vm-read", peeks(pid));
    tell("signal", kill(pid, 0) == 0);
    tell("pidfd-getfd", syscall(SYS_pidfd_getfd, (int)syscall(SYS_pidfd_open, pid, 0), 0, 0) >= 0);
    tell("folder", lists(dir));
    for (size_t i = 0; i < sizeof(files) / sizeof(files[0]); i++) {
        (void)snprintf(path, sizeof(path), "%s/%s", dir, files[i]);
        (void)snprintf(name, sizeof(name), "file-%s", files[i][0] != '\0' ? files[i] : "folder");
        tell(name, reads(path));
    }
    (void)snprintf(path, sizeof(path), "%s/made-by-another", dir);
    tell("write-folder", writes(path));
    tell("replace-socket", unlink(sock) == 0);
    tell("ask", is_heard(sock));
    return 0;
}

static int executes(const char *path)
{
    int status = 0;
    pid_t child = fork();
    if (child == 0) {
        (void)execl(path, path, (char *)NULL);
        _exit(errno == 0 ? 1 : errno);
    }
    if (child < 0 || waitpid(child, &status, 0) != child) {
        return 0;
    }
    errno = WIFEXITED(status) ? WEXITSTATUS(status) : EPERM;
    return WIFEXITED(status) && WEXITSTATUS(status) == 0;
}

static int traces(void)
{
    pid_t child = fork();
    if (child == 0) {
        (void)pause();
        _exit(0);
    }
    int good = child > 0 && ptrace(PTRACE_SEIZE, child, 0, 0) == 0;
    int e = errno;
    if (child > 0) {
        (void)kill(child, SIGKILL);
        (void)waitpid(child, NULL, 0);
    }
    errno = e;
    return good;
}

static int inside(void)
{
    int inet = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    tell("inet", inet >= 0);
    int inet6 = socket(AF_INET6, SOCK_STREAM | SOCK_CLOEXEC, 0);
    tell("inet6", inet6 >= 0);
    tell("unix", socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0) >= 0); /* what it is there for */
    tell("exec", executes("/usr/bin/true"));
    tell("exec-shell", executes("/bin/sh"));
    tell("ptrace", traces());
    tell("vm-read", peeks(getpid()));
    void *p = mmap(NULL, 4096, PROT_WRITE | PROT_EXEC, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    tell("write-and-execute", p != MAP_FAILED);
    tell("become-root", setuid(0) == 0);
    tell("namespace", unshare(CLONE_NEWUSER) == 0);
    tell("mount", syscall(SYS_mount, "none", "/tmp", "tmpfs", 0, NULL) == 0);
    tell("keyring", syscall(SYS_add_key, "user", "x", "y", 1, -3) >= 0);
    tell("set-clock", syscall(SYS_settimeofday, NULL, NULL) == 0);
    tell("write-etc", writes("/etc/berth-probe"));
    tell("write-usr", writes("/usr/local/sbin/berth-probe"));
    tell("read-dps", lists("/var/lib/berth"));
    tell("read-home", lists("/root"));
    tell("read-shadow", reads("/etc/shadow"));
    tell("devices", reads("/dev/mem"));
    tell("own-folder", writes("/var/lib/berth-signer/probe")); /* what it is there for */
    return 0;
}

int main(int argc, char **argv)
{
    if (argc == 5 && strcmp(argv[1], "outside") == 0) {
        return outside((pid_t)strtol(argv[2], NULL, 10), argv[3], argv[4]);
    }
    return inside();
}
