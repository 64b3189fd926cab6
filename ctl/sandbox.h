/* SPDX-License-Identifier: Apache-2.0 */
/*
 * `berth sandbox`: a private cloud in one folder, on loopback: a CA, one berth-dps, N berth-hub, linked. No back door: each server's
 * --init makes its names and first policies, all else goes through public REST.
 *
 *   D/sandbox.json     marker and settings (address, ports, hubs); a folder without it that is not empty is refused (threat E9)
 *   D/ca.pem ca.key server.pem server.key      the servers' certificate has every address as iPAddress
 *   D/dps/ D/hub1/ ... conf and data of each   D/log: one file each
 *   D/pids.json        process number and start time of each, so that a reused number is never signalled
 *   D/env.json         endpoints and credentials for clients, 0600
 *
 * Every step looks at what is there and goes on from it: up after an interrupted up, a crash or a reboot completes; a second up
 * changes nothing. An interrupted up ends what it started.
 * Threads     one.
 */
#ifndef CTL_SANDBOX_H
#define CTL_SANDBOX_H

#include "ctl/ctl.h"

#define SANDBOX_HUBS_MAX 50u
#define SANDBOX_SERVERS (SANDBOX_HUBS_MAX + 1u)

struct sandbox_server {
    char name[16];    /* "dps", "hub1" */
    char address[16]; /* "127.0.0.1" */
    char *dir;        /* D/dps */
    int64_t pid;      /* 0: not running */
    uint64_t start;   /* of the process, clock ticks since boot */
    bool is_ours;     /* started by this command */
    int ready_fd;     /* -1 */
    char *metrics;    /* URL */
};

struct sandbox {
    char *dir; /* absolute */
    int lock_fd;
    char address[16];
    uint16_t https_port, mqtts_port;
    unsigned n; /* servers: dps, then hubs */
    struct sandbox_server server[SANDBOX_SERVERS];
    char *bin_dps, *bin_hub;
};

/* sandbox_files.c */
MUST_USE enum err sandbox_open(struct sandbox *sb, const char *dir, bool may_create,
                               const struct cli_args *a, struct err_info *info);
void sandbox_done(struct sandbox *sb);
MUST_USE enum err sandbox_make_pki(const struct sandbox *sb, struct err_info *info);
MUST_USE enum err sandbox_write_conf(const struct sandbox *sb, unsigned i, struct err_info *info);
MUST_USE enum err sandbox_find_programs(struct sandbox *sb, const char *bin_dir,
                                        struct err_info *info);
char *sandbox_path(const struct sandbox *sb, const char *name); /* D/name, heap */
MUST_USE enum err sandbox_init_json(const struct sandbox *sb, unsigned i, struct json **ret,
                                    struct err_info *info);
/* "HostName=..;SharedAccessKeyName=..;SharedAccessKey=.." of a policy in init.json. */
MUST_USE enum err sandbox_connection_string(const struct sandbox *sb, unsigned i,
                                            const char *policy, struct buf *ret,
                                            struct err_info *info);

/* sandbox_proc.c */
/* Start time of a process in clock ticks, 0 when it does not run: a number alone may have been used again. */
uint64_t sandbox_start_of(int64_t pid);
/* The same out of a line of /proc/PID/stat. */
uint64_t sandbox_start_of_line(struct span line);
MUST_USE enum err sandbox_load_pids(struct sandbox *sb,
                                    struct err_info *info); /* dead ones become pid 0 */
MUST_USE enum err sandbox_save_pids(const struct sandbox *sb, struct err_info *info);
MUST_USE enum err sandbox_check_ports(const struct sandbox *sb, unsigned i, struct err_info *info);
MUST_USE enum err sandbox_init_server(const struct sandbox *sb, unsigned i, struct err_info *info);
MUST_USE enum err sandbox_start(struct sandbox *sb, unsigned i, struct err_info *info);
MUST_USE enum err sandbox_wait_ready(struct sandbox *sb, unsigned i, struct err_info *info);
/* SIGTERM to all (or those of this command only), waits, SIGKILL after grace_ms. */
void sandbox_stop(struct sandbox *sb, bool only_ours, unsigned grace_ms);

/* sandbox_link.c: over public REST */
MUST_USE enum err sandbox_link(const struct sandbox *sb, const struct cli_args *a,
                               struct err_info *info);
MUST_USE enum err sandbox_write_env(struct sandbox *sb, struct json **ret, struct err_info *info);

#endif
