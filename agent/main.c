/* SPDX-License-Identifier: Apache-2.0 */
#include <getopt.h>
#include <signal.h>
#include <stdio.h>
#include <systemd/sd-daemon.h>

#include "agent/agent.h"
#include "base/conf.h"
#include "base/fs.h"
#include "base/log.h"
#include "tpm/chip.h"

static atomic_int stop;

static void on_signal(int sig)
{
    (void)sig;
    stop = 1;
}

#define C(m) offsetof(struct agent_conf, m)
/* clang-format off */
static const struct conf_row conf_rows[] = {
    { "agent", "identity",           CONF_PATH, C(identity_dir), 0, 0, "/var/lib/berth/identity", "Folder that enroll-tool burned." },
    { "agent", "state",              CONF_PATH, C(state_dir),    0, 0, "/var/lib/berth/agent", "Folder of what the agent learns; private to it." },
    { "agent", "telemetry-interval", CONF_U64,  C(telemetry_s),  1, 86400, "60", "Seconds between messages; the desired property telemetryInterval wins." },
    { "agent", "tpm-tcti",           CONF_STR,  C(tpm_tcti),     0, 0, "", "How the TPM of an identity in one is reached, as device:/dev/tpmrm0; empty: the system's." },
    { "agent", "certificate",        CONF_BOOL, C(certificate),  0, 0, "no", "Ask the DPS for a certificate at each registration, go to the hub with it, and renew it." },
    { "agent", "renew-at",           CONF_U64,  C(renew_at),     1, 95, "66", "Per cent of a certificate's life after which it is renewed." },
    { "agent", "proxy",              CONF_STR,  C(proxy),        0, 0, "", "HTTP proxy on the way to DPS and hub, http://HOST:PORT; none: no proxy; empty: what HTTPS_PROXY says." },
    { "agent", "proxy-credential",   CONF_PATH, C(proxy_credential), 0, 0, "", "File with USER:PASSWORD for the proxy; only its owner may read it." },
    { "agent", "no-proxy",           CONF_LIST, C(no_proxy),     0, 0, "", "Hosts that are reached without the proxy: names with all below them, addresses, ADDRESS/BITS; empty: what NO_PROXY says." },
    { "stream *", "target",          CONF_STR,  0,               0, 0, NULL, "ADDRESS:PORT that the service may reach under this section's name, through the hub; nothing else can be reached." },
    { "stream *", "end-to-end",      CONF_STR,  0,               0, 0, NULL, "offered, or required: only connections that are encrypted up to this unit, with its certificate. offered when absent." },
    { "log",   "level",              CONF_STR,  C(log_level),    0, 0, "info", "debug, info, warn or error." },
    { "log",   "format",             CONF_STR,  C(log_format),   0, 0, "logfmt", "logfmt or json." },
};
/* clang-format on */

/* --- command line ------------------------------------------------------------------------------------------------------------ */

enum {
    O_CONFIG = 256,
    O_IDENTITY,
    O_STATE,
    O_INTERVAL,
    O_TPM_INFO,
    O_CERTIFICATE,
    O_CHECK,
    O_DUMP,
    O_VERSION,
    O_HELP
};
static const struct option options[] = {
    {"config", required_argument, NULL, O_CONFIG},
    {"identity", required_argument, NULL, O_IDENTITY},
    {"state", required_argument, NULL, O_STATE},
    {"telemetry-interval", required_argument, NULL, O_INTERVAL},
    {"tpm-info", no_argument, NULL, O_TPM_INFO},
    {"certificate", no_argument, NULL, O_CERTIFICATE},
    {"check-config", no_argument, NULL, O_CHECK},
    {"dump-config", no_argument, NULL, O_DUMP},
    {"version", no_argument, NULL, O_VERSION},
    {"help", no_argument, NULL, O_HELP},
    {NULL, 0, NULL, 0},
};
static const char help[] =
    "Usage: berth-agent [OPTION]...\n\n"
    "  --config FILE               Read this configuration file (/etc/berth/agent.conf when it is "
    "there).\n"
    "  --identity DIR              Folder that enroll-tool burned.\n"
    "  --state DIR                 Folder of what the agent learns.\n"
    "  --telemetry-interval S      Seconds between messages.\n"
    "  --tpm-info                  Print the keys of the TPM for the enrollment, and exit.\n"
    "  --certificate               Ask the DPS for a certificate, and go to the hub with it.\n"
    "  --check-config              Check the configuration and exit.\n"
    "  --dump-config               Print the configuration in force and exit.\n"
    "  --version, --help\n";

static int usage_error(const char *text)
{
    fprintf(stderr, "berth-agent: %s; see --help\n", text);
    return 2;
}

struct cmdline {
    const char *config;
    char sets[8][512];
    size_t n_sets;
    bool check, dump, tpm_info;
};

/* -1: go on, else the exit status. */
static int read_options(int argc, char **argv, struct cmdline *c)
{
    static const struct {
        int id;
        const char *name;
    } rows[] = {{O_IDENTITY, "agent.identity"},
                {O_STATE, "agent.state"},
                {O_INTERVAL, "agent.telemetry-interval"},
                {O_CERTIFICATE, "agent.certificate"}};
    int id;
    while ((id = getopt_long(argc, argv, "", options, NULL)) != -1) {
        for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
            if (rows[i].id == id) {
                if (c->n_sets == ARRAY_LEN(c->sets)) {
                    return usage_error("too many options");
                }
                (void)snprintf(c->sets[c->n_sets++], sizeof(c->sets[0]), "%s=%s", rows[i].name,
                               optarg != NULL ? optarg : "yes");
            }
        }
        if (id == O_CONFIG) {
            c->config = optarg;
        } else if (id == O_HELP || id == O_VERSION) {
            printf("%s", id == O_HELP ? help : "berth-agent " PACKAGE_VERSION "\n");
            return 0;
        } else if (id == '?') {
            return 2;
        }
        c->check = c->check || id == O_CHECK;
        c->dump = c->dump || id == O_DUMP;
        c->tpm_info = c->tpm_info || id == O_TPM_INFO;
    }
    return optind < argc ? usage_error("unexpected argument") : -1;
}

static enum err add_target(void *arg, const char *section, const char *name, const char *value,
                           struct err_info *info)
{
    struct agent_conf *conf = arg;
    struct span of = span_trim(span_from(span_str(section), 7));
    return strcmp(name, "end-to-end") == 0
               ? agent_target_seal(&conf->targets, of, span_str(value), info)
               : agent_target_add(&conf->targets, of, span_str(value), info);
}

static enum err load_conf(const struct cmdline *c, struct agent_conf *conf, struct err_info *info)
{
    static const char dflt[] = "/etc/berth/agent.conf";
    const char *path = c->config != NULL ? c->config : fs_exists(dflt) ? dflt : NULL;
    enum err e = conf_load(conf_rows, ARRAY_LEN(conf_rows), path, conf, add_target, conf, info);
    for (size_t i = 0; e == OK && i < c->n_sets; i++) {
        e = conf_set(conf_rows, ARRAY_LEN(conf_rows), conf, c->sets[i], info);
    }
    return e;
}

static enum err print_tpm(const struct agent_conf *conf, struct err_info *info)
{
    AUTO(buf_done) struct buf b = BUF_INIT(4 * CHIP_CERT_MAX);
    enum err e = chip_tell(conf->tpm_tcti, &b, info);
    if (e == OK) {
        printf("%.*s\n", SPAN_ARG(buf_span(&b)));
    }
    return e;
}

int main(int argc, char **argv)
{
    static struct agent a;
    struct agent_conf conf = {0};
    struct cmdline c = {0};
    struct err_info info = {0};
    const struct sigaction sa = {.sa_handler = on_signal};
    enum log_level level = LOG_L_INFO;
    int status = read_options(argc, argv, &c);
    if (status >= 0) {
        return status;
    }
    enum err e = load_conf(&c, &conf, &info);
    if (e == OK && conf.log_level != NULL && !log_level_parse(span_str(conf.log_level), &level)) {
        e = err_set(&info, E_CONFIG, "log level '%s' is none", conf.log_level);
    }
    if (e == OK) {
        e = agent_proxy_read(&conf, &a.proxy, &info);
    }
    if (e == OK && c.dump) {
        conf_dump(conf_rows, ARRAY_LEN(conf_rows), &conf, stdout);
    }
    if (e == OK && c.tpm_info) {
        e = print_tpm(&conf, &info);
    }
    if (e == OK && !c.check && !c.dump && !c.tpm_info) {
        log_setup("berth-agent", level,
                  conf.log_format != NULL && span_is(span_str(conf.log_format), "json")
                      ? LOG_F_JSON
                      : LOG_F_LOGFMT);
        (void)sigaction(SIGTERM, &sa, NULL);
        (void)sigaction(SIGINT, &sa, NULL);
        (void)signal(SIGPIPE, SIG_IGN);
        if ((e = secret_forbid_dumps(&info)) == OK &&
            (e = agent_start(&a, &conf, &stop, &info)) == OK) {
            LOG_INFO("agent.start", L_STR("registration", a.id.registration_id),
                     L_U64("boot", a.boot), L_STR("version", PACKAGE_VERSION));
            if (a.proxy.host[0] != '\0') {
                LOG_INFO("agent.proxy", L_STR("host", a.proxy.host), L_U64("port", a.proxy.port));
            }
            agent_run(&a);
            LOG_INFO("agent.stop", L_U64("unsent", a.count));
        }
        (void)sd_notify(0, "STOPPING=1");
        agent_finish(&a);
    }
    proxy_done(&a.proxy); /* also when it never ran */
    if (e != OK) {
        fprintf(stderr, "berth-agent: %s\n", err_why(&info, e));
    }
    conf_done(conf_rows, ARRAY_LEN(conf_rows), &conf);
    return e == OK ? 0 : 1;
}
