/* SPDX-License-Identifier: Apache-2.0 */
/* mqttload: a small load generator for MQTT/TLS servers, IoT-hub and DPS flavoured.
 *
 * One file, OpenSSL + epoll, one thread by default.  It is made to cost little CPU
 * itself and to report the SERVER's CPU seconds and memory (--pid), because CPU per
 * operation stays meaningful on a small shared machine where ops/s does not.
 *
 *   mqttload mkcerts  --dir D -n N            write a P-256 test PKI
 *   mqttload tls      -n N -c C [--path /x]   TLS handshakes (one HTTP GET each with --path)
 *   mqttload http     -m M -d T --path /x     keep-alive HTTPS requests
 *   mqttload connect  -n N -c C               MQTT CONNECT/CONNACK, then disconnect
 *   mqttload hold     -m M -d T               M idle connections with pings; memory per connection
 *   mqttload pub      -m M -d T -q 1 -s S -w W --topic T   publish; acked msgs/s, ack latency
 *   mqttload dps      -n N -c C --scope S     device registrations over MQTT
 *   mqttload relay    ...                     bytes through a relay (raw TLS proxy or WebSocket)
 *   mqttload ackd     --port P --sink-cert F --sink-key F [--dir D]   the least server: see below
 *   mqttload disk     --dir D -n N -s S       write S bytes + fdatasync, N times, on the disk of D
 *   mqttload floor    --dir D -n N            in-memory handshakes: the TLS library's own cost, no sockets
 *
 * `mqttload --help` lists the options.  Every run ends with one line
 *   RESULT mode=... key=value ...
 * for scripts.  Exit status: 0 ran and nothing failed, 1 something failed, 2 bad usage.
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <ctype.h>
#include <errno.h>
#include <fcntl.h>
#include <getopt.h>
#include <malloc.h>
#include <netdb.h>
#include <netinet/tcp.h>
#include <pthread.h>
#include <signal.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include <openssl/bio.h>
#include <openssl/ec.h>
#include <openssl/err.h>
#include <openssl/evp.h>
#include <openssl/hmac.h>
#include <openssl/pem.h>
#include <openssl/rand.h>
#include <openssl/ssl.h>
#include <openssl/x509v3.h>

#ifndef IP_BIND_ADDRESS_NO_PORT
#define IP_BIND_ADDRESS_NO_PORT 24
#endif

/* ------------------------------------------------------------------ options */

enum mode { M_NONE, M_MKCERTS, M_TLS, M_HTTP, M_CONNECT, M_HOLD, M_PUB, M_DPS, M_RELAY, M_FLOOR, M_DISK, M_ACKD };

static struct {
	enum mode mode;
	const char *mode_name;
	const char *host;
	int port;
	const char *sni;
	int srcs;               /* loopback source addresses to rotate over */
	int plain;
	int tls12, tls13;
	const char *ca, *cert, *key_pem, *pairs, *groups, *ciphers;
	int resume;
	long n;                 /* operations (connect, tls, dps) */
	long devices;           /* distinct devices; 0 = n or m */
	long first;             /* index of the first device */
	int conc;               /* connections being set up at once */
	int clients;            /* persistent connections (hold, pub, http) */
	double dur;
	double rate;
	double timeout;
	double settle;
	int threads;
	int proto_level;
	int clean;
	int keepalive;
	const char *id, *client_id, *user, *pass, *hub, *scope;
	const char *sas_key, *sas_group_key, *keyfile;
	long sas_ttl;
	const char *topic;
	int qos, size, window, nocoalesce;
	int subs, sub_qos;
	const char *sub_topic;
	const char *path, *method, *header, *body;
	const char *filters[8]; /* --subscribe: of every device, before it counts as connected */
	int nfilters;
	long stride;            /* device of the k-th operation: first + k * stride % devices */
	const char *ws;
	int no_wait;
	FILE *trace;
	const char *pids;
	const char *dir;
	const char *label;
	int quiet;
	const char *sink_cert, *sink_key;
	int sink_port;
	const char *relay_b;    /* WebSocket path of the receiving side */
	const char *header_b;   /* and its header, when it is another */
	double mb;
	int frame;
} o = {
	.host = "127.0.0.1", .port = 8883, .srcs = 16, .conc = 32, .clients = 100, .dur = 5,
	.timeout = 30, .settle = 1, .threads = 1, .proto_level = 4, .clean = 1, .keepalive = 60,
	.id = "dev%05d", .client_id = "%s", .hub = "localhost", .scope = "0ne00000000",
	.sas_ttl = 3600, .topic = "devices/%s/messages/events/", .qos = 1, .size = 256,
	.window = 1, .sub_qos = 1, .sub_topic = "devices/#", .method = "GET", .dir = ".",
	.mb = 1024, .frame = 16384, .stride = 1,
};

static void die(const char *fmt, ...)
{
	va_list ap;
	va_start(ap, fmt);
	fputs("mqttload: ", stderr);
	vfprintf(stderr, fmt, ap);
	fputc('\n', stderr);
	va_end(ap);
	exit(2);
}

static uint64_t now_ns(void)
{
	struct timespec t;
	clock_gettime(CLOCK_MONOTONIC, &t);
	return (uint64_t)t.tv_sec * 1000000000ull + (uint64_t)t.tv_nsec;
}

static void *xmalloc(size_t n)
{
	void *p = malloc(n ? n : 1);
	if (!p)
		die("out of memory");
	return p;
}

static void *xcalloc(size_t n, size_t m)
{
	void *p = calloc(n ? n : 1, m ? m : 1);
	if (!p)
		die("out of memory");
	return p;
}

/* ---------------------------------------------------------------- histogram */

#define HSUB 64                     /* sub-buckets per octave: about 1.5 % */
#define HN (HSUB * 60)
typedef struct { uint64_t n, sum, max; uint32_t b[HN]; } hist;

static void h_add(hist *h, uint64_t v)
{
	unsigned i;
	if (v < HSUB)
		i = (unsigned)v;
	else {
		int e = 63 - __builtin_clzll(v);
		i = (unsigned)((e - 5) * HSUB + (int)((v >> (e - 6)) & (HSUB - 1)));
	}
	if (i >= HN)
		i = HN - 1;
	h->b[i]++;
	h->n++;
	h->sum += v;
	if (v > h->max)
		h->max = v;
}

static void h_merge(hist *d, const hist *s)
{
	for (int i = 0; i < HN; i++)
		d->b[i] += s->b[i];
	d->n += s->n;
	d->sum += s->sum;
	if (s->max > d->max)
		d->max = s->max;
}

static double h_q(const hist *h, double q)      /* milliseconds */
{
	if (!h->n)
		return 0;
	uint64_t want = (uint64_t)(q * (double)h->n), c = 0;
	if (want >= h->n)
		want = h->n - 1;
	for (int i = 0; i < HN; i++) {
		c += h->b[i];
		if (c > want) {
			double v;
			if (i < HSUB)
				v = i;
			else {
				int e = i / HSUB + 5;
				v = (double)((uint64_t)(HSUB + i % HSUB) << (e - 6));
			}
			return v / 1e6;
		}
	}
	return (double)h->max / 1e6;
}

/* ------------------------------------------------ server CPU and memory view */

#define MAXPID 256
static int pid_list(pid_t *out)     /* --pid and all descendants */
{
	int n = 0;
	if (!o.pids)
		return 0;
	for (const char *p = o.pids; *p && n < MAXPID;) {
		long v = strtol(p, (char **)&p, 10);
		if (v > 0)
			out[n++] = (pid_t)v;
		while (*p && !isdigit((unsigned char)*p))
			p++;
	}
	for (int i = 0; i < n && n < MAXPID; i++) {
		char f[80];
		snprintf(f, sizeof f, "/proc/%d/task/%d/children", (int)out[i], (int)out[i]);
		FILE *fp = fopen(f, "r");
		long v;
		if (!fp)
			continue;
		while (n < MAXPID && fscanf(fp, "%ld", &v) == 1)
			out[n++] = (pid_t)v;
		fclose(fp);
	}
	return n;
}

typedef struct {
	int ok;
	double cpu;             /* s, user + system, of --pid and descendants */
	long rss, priv;         /* KiB */
	long sockmem, slab, memavail;   /* KiB, whole machine */
} snap;

static double srv_cpu(void)
{
	pid_t p[MAXPID];
	int n = pid_list(p);
	double s = 0;
	for (int i = 0; i < n; i++) {
		clockid_t c;
		struct timespec t;
		if (clock_getcpuclockid(p[i], &c) == 0 && clock_gettime(c, &t) == 0)
			s += (double)t.tv_sec + (double)t.tv_nsec / 1e9;
	}
	return s;
}

static long field_kib(const char *file, const char *name)
{
	FILE *f = fopen(file, "r");
	char l[256];
	size_t nl = strlen(name);
	long v = 0;
	if (!f)
		return 0;
	while (fgets(l, sizeof l, f))
		if (!strncmp(l, name, nl) && l[nl] == ':')
			v += strtol(l + nl + 1, NULL, 10);
	fclose(f);
	return v;
}

static snap take_snap(int mem)
{
	snap s = {0};
	pid_t p[MAXPID];
	int n = pid_list(p);
	s.ok = n > 0;
	s.cpu = srv_cpu();
	if (!mem)
		return s;
	for (int i = 0; i < n; i++) {
		char f[80];
		snprintf(f, sizeof f, "/proc/%d/smaps_rollup", (int)p[i]);
		long rss = field_kib(f, "Rss");
		long priv = field_kib(f, "Private_Clean") + field_kib(f, "Private_Dirty");
		if (!rss) {
			snprintf(f, sizeof f, "/proc/%d/status", (int)p[i]);
			priv = rss = field_kib(f, "VmRSS");
		}
		s.rss += rss;
		s.priv += priv;
	}
	s.slab = field_kib("/proc/meminfo", "Slab");
	s.memavail = field_kib("/proc/meminfo", "MemAvailable");
	FILE *fp = fopen("/proc/net/sockstat", "r");
	char l[256];
	while (fp && fgets(l, sizeof l, fp)) {
		char *m = strstr(l, " mem ");
		if (!strncmp(l, "TCP:", 4) && m)
			s.sockmem = strtol(m + 5, NULL, 10) * (sysconf(_SC_PAGESIZE) / 1024);
	}
	if (fp)
		fclose(fp);
	return s;
}

static double self_cpu(void)
{
	struct rusage r;
	getrusage(RUSAGE_SELF, &r);
	return (double)(r.ru_utime.tv_sec + r.ru_stime.tv_sec) +
	       (double)(r.ru_utime.tv_usec + r.ru_stime.tv_usec) / 1e6;
}

/* ------------------------------------------------- templates, keys, SAS token */

static char **dev_ids;          /* from --keyfile */
static char **dev_keys;
static long dev_file_n;

static int make_password(char *d, size_t cap, const char *id, long idx);

static size_t expand(char *d, size_t cap, const char *t, const char *id, long idx)
{
	size_t n = 0;
	while (*t && n + 1 < cap) {
		if (*t != '%') {
			d[n++] = *t++;
			continue;
		}
		const char *q = t + 1;
		int w = 0;
		while (isdigit((unsigned char)*q))
			w = w * 10 + (*q++ - '0');
		size_t left = cap - n;
		int k = -1;
		if (*q == 'd' && w < 40)
			k = snprintf(d + n, left, "%0*ld", w, idx);
		else if (q == t + 1 && *q == 's')
			k = snprintf(d + n, left, "%s", id);
		else if (q == t + 1 && *q == 'h')
			k = snprintf(d + n, left, "%s", o.hub);
		else if (q == t + 1 && *q == 'S')
			k = snprintf(d + n, left, "%s", o.scope);
		else if (q == t + 1 && *q == 'T')
			k = make_password(d + n, left, id, idx) ? (int)strlen(d + n) : 0;
		else if (q == t + 1 && *q == '%')
			k = snprintf(d + n, left, "%%");
		if (k < 0) {            /* not ours (e.g. %2F): copy the percent sign */
			d[n++] = *t++;
			continue;
		}
		n += (size_t)k < left ? (size_t)k : left - 1;
		t = q + 1;
	}
	d[n] = 0;
	return n;
}

static void dev_name(char *d, size_t cap, long i)
{
	if (dev_file_n)
		snprintf(d, cap, "%s", dev_ids[i % dev_file_n]);
	else
		expand(d, cap, o.id, "", i);
}

static size_t urlenc(char *d, size_t cap, const char *s)
{
	static const char hex[] = "0123456789ABCDEF";
	size_t n = 0;
	for (; *s && n + 4 < cap; s++) {
		unsigned char c = (unsigned char)*s;
		if (isalnum(c) || strchr("-_.~", c))
			d[n++] = (char)c;
		else {
			d[n++] = '%';
			d[n++] = hex[c >> 4];
			d[n++] = hex[c & 15];
		}
	}
	d[n] = 0;
	return n;
}

static int b64dec(unsigned char *d, const char *s)
{
	size_t l = strlen(s);
	unsigned char tmp[600];
	if (l > 700 || l % 4)
		return -1;
	int n = EVP_DecodeBlock(tmp, (const unsigned char *)s, (int)l);
	if (n < 0)
		return -1;
	while (l && s[--l] == '=')
		n--;
	memcpy(d, tmp, (size_t)n);
	return n;
}

static void hmac_b64(char *d, const unsigned char *k, int kl, const char *msg)
{
	unsigned char md[32];
	unsigned int ml;
	HMAC(EVP_sha256(), k, kl, (const unsigned char *)msg, strlen(msg), md, &ml);
	EVP_EncodeBlock((unsigned char *)d, md, 32);
}

/* password of device id; returns 0 when there is none */
static int make_password(char *d, size_t cap, const char *id, long idx)
{
	const char *k64 = NULL;
	char derived[64];
	unsigned char key[600];
	int kl;
	if (o.keyfile)
		k64 = dev_keys[idx % dev_file_n];
	else if (o.sas_group_key) {
		if ((kl = b64dec(key, o.sas_group_key)) < 0)
			die("bad base64 in --sas-group-key");
		hmac_b64(derived, key, kl, id);
		k64 = derived;
	} else if (o.sas_key)
		k64 = o.sas_key;
	if (!k64) {
		if (!o.pass)
			return 0;
		expand(d, cap, o.pass, id, idx);
		return 1;
	}
	if ((kl = b64dec(key, k64)) < 0)
		die("bad base64 key of %s", id);
	char res[400], sr[900], sts[1000], sig[64], sige[200];
	if (o.mode == M_DPS)
		snprintf(res, sizeof res, "%s/registrations/%s", o.scope, id);
	else
		snprintf(res, sizeof res, "%s/devices/%s", o.hub, id);
	urlenc(sr, sizeof sr, res);
	long long se = (long long)time(NULL) + o.sas_ttl;
	snprintf(sts, sizeof sts, "%s\n%lld", sr, se);
	hmac_b64(sig, key, kl, sts);
	urlenc(sige, sizeof sige, sig);
	snprintf(d, cap, "SharedAccessSignature sr=%s&sig=%s&se=%lld%s", sr, sige, se,
		 o.mode == M_DPS ? "&skn=registration" : "");
	return 1;
}

static void load_keyfile(void)
{
	FILE *f = fopen(o.keyfile, "r");
	char l[1200];
	long cap = 0;
	if (!f)
		die("cannot open %s", o.keyfile);
	while (fgets(l, sizeof l, f)) {
		char *c = strchr(l, ',');
		if (!c)
			continue;
		*c++ = 0;
		c[strcspn(c, "\r\n, \t")] = 0;
		if (dev_file_n == cap) {
			cap = cap ? cap * 2 : 1024;
			dev_ids = realloc(dev_ids, (size_t)cap * sizeof *dev_ids);
			dev_keys = realloc(dev_keys, (size_t)cap * sizeof *dev_keys);
			if (!dev_ids || !dev_keys)
				die("out of memory");
		}
		dev_ids[dev_file_n] = strdup(l);
		dev_keys[dev_file_n++] = strdup(c);
	}
	fclose(f);
	if (!dev_file_n)
		die("no `id,key` lines in %s", o.keyfile);
}

/* ----------------------------------------------------------- TLS client setup */

static SSL_CTX *ctx;
static X509 **pair_x;
static EVP_PKEY **pair_k;
static long npairs;
static SSL_SESSION **sess;      /* --resume: last session of each device */
static int sess_idx = -1;

static void tls_die(const char *what)
{
	char b[200];
	ERR_error_string_n(ERR_get_error(), b, sizeof b);
	die("%s: %s", what, b);
}

static int on_new_session(SSL *s, SSL_SESSION *ss)
{
	SSL_SESSION **p = SSL_get_ex_data(s, sess_idx);
	if (!p)
		return 0;
	if (*p)
		SSL_SESSION_free(*p);
	*p = ss;
	return 1;
}

static int accept_any(X509_STORE_CTX *x, void *arg)
{
	return 1;
}

static void load_pairs(void)
{
	BIO *b = BIO_new_file(o.pairs, "r");
	long cap = 0;
	if (!b)
		die("cannot open %s", o.pairs);
	for (;;) {
		X509 *x = PEM_read_bio_X509(b, NULL, NULL, NULL);
		if (!x)
			break;
		EVP_PKEY *k = PEM_read_bio_PrivateKey(b, NULL, NULL, NULL);
		if (!k)
			tls_die("--pairs: certificate without a key after it");
		if (npairs == cap) {
			cap = cap ? cap * 2 : 1024;
			pair_x = realloc(pair_x, (size_t)cap * sizeof *pair_x);
			pair_k = realloc(pair_k, (size_t)cap * sizeof *pair_k);
			if (!pair_x || !pair_k)
				die("out of memory");
		}
		pair_x[npairs] = x;
		pair_k[npairs++] = k;
		if (npairs >= (o.devices ? o.devices : o.mode == M_HOLD || o.mode == M_PUB ||
			       o.mode == M_HTTP ? o.clients + o.subs : o.n))
			break;
	}
	BIO_free(b);
	ERR_clear_error();
	if (!npairs)
		die("no certificate/key pairs in %s", o.pairs);
}

static void tls_setup(void)
{
	if (o.plain)
		return;
	ctx = SSL_CTX_new(TLS_client_method());
	if (!ctx)
		tls_die("SSL_CTX_new");
	if (o.tls12)
		SSL_CTX_set_max_proto_version(ctx, TLS1_2_VERSION);
	if (o.tls13)
		SSL_CTX_set_min_proto_version(ctx, TLS1_3_VERSION);
	SSL_CTX_set_mode(ctx, SSL_MODE_RELEASE_BUFFERS | SSL_MODE_ENABLE_PARTIAL_WRITE |
			 SSL_MODE_ACCEPT_MOVING_WRITE_BUFFER | SSL_MODE_NO_AUTO_CHAIN);
	SSL_CTX_set_read_ahead(ctx, 1);
	if (o.groups && !SSL_CTX_set1_groups_list(ctx, o.groups))
		tls_die("--groups");
	if (o.ciphers && !SSL_CTX_set_cipher_list(ctx, o.ciphers) &&
	    !SSL_CTX_set_ciphersuites(ctx, o.ciphers))
		tls_die("--ciphers");
	if (o.ca) {
		if (!SSL_CTX_load_verify_locations(ctx, o.ca, NULL))
			tls_die("--ca");
		SSL_CTX_set_verify(ctx, SSL_VERIFY_PEER, NULL);
	} else {                /* no --ca: do not even build the chain, it costs the generator CPU */
		SSL_CTX_set_verify(ctx, SSL_VERIFY_NONE, NULL);
		SSL_CTX_set_cert_verify_callback(ctx, accept_any, NULL);
	}
	if (o.cert) {
		if (SSL_CTX_use_certificate_chain_file(ctx, o.cert) != 1)
			tls_die("--cert");
		if (SSL_CTX_use_PrivateKey_file(ctx, o.key_pem ? o.key_pem : o.cert,
						SSL_FILETYPE_PEM) != 1)
			tls_die("--key");
	}
	if (o.pairs)
		load_pairs();
	sess_idx = SSL_get_ex_new_index(0, NULL, NULL, NULL, NULL);
	if (o.resume) {
		SSL_CTX_set_session_cache_mode(ctx, SSL_SESS_CACHE_CLIENT |
					       SSL_SESS_CACHE_NO_INTERNAL_STORE);
		SSL_CTX_sess_set_new_cb(ctx, on_new_session);
	} else
		SSL_CTX_set_session_cache_mode(ctx, SSL_SESS_CACHE_OFF);
}

static SSL *tls_new(int fd, long dev)
{
	SSL *s = SSL_new(ctx);
	if (!s)
		tls_die("SSL_new");
	SSL_set_fd(s, fd);
	SSL_set_tlsext_host_name(s, (char *)(o.sni ? o.sni : o.hub));
	if (o.ca && !o.sni)
		SSL_set1_host(s, o.hub);
	else if (o.ca)
		SSL_set1_host(s, o.sni);
	if (npairs) {
		SSL_use_certificate(s, pair_x[(dev - o.first) % npairs]);
		SSL_use_PrivateKey(s, pair_k[(dev - o.first) % npairs]);
	}
	if (o.resume) {
		SSL_set_ex_data(s, sess_idx, &sess[dev]);
		if (sess[dev])
			SSL_set_session(s, sess[dev]);
	}
	SSL_set_connect_state(s);
	return s;
}

/* -------------------------------------------------------------- worker, conn */

enum state { S_FREE, S_TCP, S_TLS, S_WSUP, S_CONNACK, S_SUBACK, S_RUN, S_HTTP,
	     S_DPS_PUT, S_DPS_SLEEP, S_DPS_GET };
static const char *state_name[] = { "free", "tcp", "tls", "ws-upgrade", "connack", "suback", "run",
	"http", "dps-put", "dps-sleep", "dps-get" };

struct worker;
typedef struct {
	struct worker *w;
	int fd;
	SSL *ssl;
	uint32_t gen;
	uint8_t state, sub, eout, acked_sub;
	long dev;
	uint64_t t0, t_tcp, t_last, due;
	uint8_t *out;
	size_t olen, ooff, ocap;
	uint8_t *tp, *mp;               /* leftovers: transport (ws) and mqtt/http */
	size_t tpl, mpl;
	uint8_t *tmpl;                  /* pub: prebuilt PUBLISH */
	size_t tmpl_len, tmpl_pid, tmpl_ts;
	uint64_t *t_sent;               /* pub: per window slot */
	uint16_t *freeslot;
	int nfree, inflight;
	int ping_out;
	int rid;
	int n202, n429, longest; /* --trace */
	char opid[200];
} conn;

#define MAXFAIL 64
typedef struct worker {
	int idx, ep;
	pthread_t th;
	conn *c;
	int nslots, nsubs;
	int *idle;
	int nidle, active;
	long next_op, ops_left;
	long started, done, connected, failed_ramp, http_left;
	uint64_t t_start, t_first, t_end;
	hist *tls, *ack, *op, *e2e;
	uint64_t sent, acked, delivered, bytes, pings, pongs, dropped, sent_paced;
	uint64_t outstanding;
	int ready, drained_flag;
	int rr;
	struct { char why[96]; uint64_t n; } f[MAXFAIL];
	int nf;
	uint64_t nfail, resumed;
	uint8_t *rbuf, *wbuf;
} W;

#define RBUF (512 * 1024)

enum { P_RAMP, P_RUN, P_DRAIN, P_DONE };
static atomic_int g_phase, g_ready, g_drained;
static _Atomic uint64_t g_t_run;
static volatile sig_atomic_t g_stop;
static struct sockaddr_in dst;
static int dst_loop;
static unsigned char *filler;

static void fail(W *w, const char *fmt, ...)
{
	char b[96];
	va_list ap;
	va_start(ap, fmt);
	vsnprintf(b, sizeof b, fmt, ap);
	va_end(ap);
	w->nfail++;
	for (int i = 0; i < w->nf; i++)
		if (!strcmp(w->f[i].why, b)) {
			w->f[i].n++;
			return;
		}
	if (w->nf < MAXFAIL) {
		strcpy(w->f[w->nf].why, b);
		w->f[w->nf++].n = 1;
	}
}

static int persistent(void) { return o.mode == M_HOLD || o.mode == M_PUB || o.mode == M_HTTP; }
static int http_mode(void) { return o.mode == M_HTTP || o.mode == M_TLS; }

static void set_events(conn *c, int out)
{
	struct epoll_event e = { .events = EPOLLIN | (out ? EPOLLOUT : 0), .data.ptr = c };
	if (c->eout == out)
		return;
	c->eout = (uint8_t)out;
	epoll_ctl(c->w->ep, EPOLL_CTL_MOD, c->fd, &e);
}

static void conn_close(conn *c, int polite)
{
	W *w = c->w;
	if (c->ssl) {
		if (polite && SSL_is_init_finished(c->ssl))
			SSL_shutdown(c->ssl);
		ERR_clear_error();
		SSL_free(c->ssl);
		c->ssl = NULL;
	}
	if (c->fd >= 0)
		close(c->fd);
	c->fd = -1;
	c->gen++;
	c->state = S_FREE;
	free(c->tp);
	free(c->mp);
	c->tp = c->mp = NULL;
	c->tpl = c->mpl = 0;
	c->olen = c->ooff = 0;
	if (!persistent())
		w->idle[w->nidle++] = (int)(c - w->c);
	w->active--;
}

/* --trace: a device that was not served comes again, as devices do; its wait began with its first attempt */
#define REDO_MAX 131072
#define REDO_AFTER_NS 2000000000ull
static struct { long dev; uint64_t t0, due; } redo[REDO_MAX];
static long redo_first, redo_n, redo_total;

static int redo_push(conn *c)
{
	if (!o.trace || o.mode != M_DPS || redo_n == REDO_MAX || redo_total >= 50 * o.n)
		return 0;
	long i = (redo_first + redo_n++) % REDO_MAX;
	redo_total++;
	redo[i].dev = c->dev;
	redo[i].t0 = c->t0;
	redo[i].due = now_ns() + REDO_AFTER_NS;
	return 1;
}

static void conn_fail(conn *c, const char *why)
{
	W *w = c->w;
	fail(w, "%s: %s", state_name[c->state], why);
	int st = c->state;
	if (persistent()) {
		if (st != S_RUN && st != S_HTTP)
			w->failed_ramp++;
		else if (g_phase != P_DONE) {
			w->dropped++;
			if (atomic_load(&g_phase) == P_RAMP) {  /* counted connected, lost before the run */
				w->connected--;
				w->failed_ramp++;
			}
		}
		w->outstanding -= (uint64_t)c->inflight;
		c->inflight = 0;
	} else if (!redo_push(c))
		w->done++;
	conn_close(c, 0);
	w->t_end = now_ns();
}

static const char *tls_why(int err)
{
	static __thread char b[80];
	unsigned long e = ERR_peek_error();
	if (e && ERR_GET_LIB(e) != ERR_LIB_SYS)
		snprintf(b, sizeof b, "tls %s", ERR_reason_error_string(e) ? ERR_reason_error_string(e) : "error");
	else if (err == SSL_ERROR_SYSCALL && errno)
		snprintf(b, sizeof b, "%s", strerror(errno));
	else
		snprintf(b, sizeof b, "closed by peer");
	ERR_clear_error();
	return b;
}

/* returns >0 bytes, 0 would block, -1 closed/error (conn already failed) */
static long xread(conn *c, uint8_t *b, size_t n)
{
	if (!c->ssl) {
		ssize_t r = recv(c->fd, b, n, 0);
		if (r > 0)
			return r;
		if (r < 0 && (errno == EAGAIN || errno == EINTR))
			return 0;
		conn_fail(c, r ? strerror(errno) : "closed by peer");
		return -1;
	}
	errno = 0;
	int r = SSL_read(c->ssl, b, n > 0x7fffffff ? 0x7fffffff : (int)n);
	if (r > 0)
		return r;
	int e = SSL_get_error(c->ssl, r);
	if (e == SSL_ERROR_WANT_READ || e == SSL_ERROR_WANT_WRITE)
		return 0;
	conn_fail(c, e == SSL_ERROR_ZERO_RETURN ? "closed by peer" : tls_why(e));
	return -1;
}

static long xwrite(conn *c, const uint8_t *b, size_t n)
{
	if (!c->ssl) {
		ssize_t r = send(c->fd, b, n, MSG_NOSIGNAL);
		if (r >= 0)
			return r;
		if (errno == EAGAIN || errno == EINTR)
			return 0;
		conn_fail(c, strerror(errno));
		return -1;
	}
	errno = 0;
	int r = SSL_write(c->ssl, b, (int)n);
	if (r > 0)
		return r;
	int e = SSL_get_error(c->ssl, r);
	if (e == SSL_ERROR_WANT_READ || e == SSL_ERROR_WANT_WRITE)
		return 0;
	conn_fail(c, tls_why(e));
	return -1;
}

static int flush(conn *c)               /* -1 when the connection died */
{
	while (c->ooff < c->olen) {
		long r = xwrite(c, c->out + c->ooff, c->olen - c->ooff);
		if (r < 0)
			return -1;
		if (r == 0) {
			set_events(c, 1);
			return 0;
		}
		c->ooff += (size_t)r;
	}
	c->ooff = c->olen = 0;
	if (c->eout)
		set_events(c, 0);
	return 0;
}

static uint8_t *reserve(conn *c, size_t n)
{
	if (c->ooff == c->olen)
		c->ooff = c->olen = 0;
	if (c->olen + n > c->ocap) {
		size_t cap = c->ocap ? c->ocap : 512;
		while (cap < c->olen + n)
			cap *= 2;
		c->out = realloc(c->out, cap);
		if (!c->out)
			die("out of memory");
		c->ocap = cap;
	}
	return c->out + c->olen;
}

static void queue_raw(conn *c, const void *b, size_t n)
{
	memcpy(reserve(c, n), b, n);
	c->olen += n;
}

/* appends payload bytes, as one masked WebSocket binary frame when --ws */
static void queue(conn *c, const void *b, size_t n)
{
	if (!o.ws) {
		queue_raw(c, b, n);
		return;
	}
	uint8_t *p = reserve(c, n + 14), *q = p;
	const uint8_t *s = b;
	*q++ = 0x82;
	if (n < 126)
		*q++ = (uint8_t)(0x80 | n);
	else if (n < 65536) {
		*q++ = 0x80 | 126;
		*q++ = (uint8_t)(n >> 8);
		*q++ = (uint8_t)n;
	} else {
		*q++ = 0x80 | 127;
		for (int i = 7; i >= 0; i--)
			*q++ = (uint8_t)((uint64_t)n >> (8 * i));
	}
	uint8_t m[4] = { 0x5a, (uint8_t)c->gen, (uint8_t)n, 0x37 };
	memcpy(q, m, 4);
	q += 4;
	for (size_t i = 0; i < n; i++)
		q[i] = s[i] ^ m[i & 3];
	c->olen += (size_t)(q - p) + n;
}

/* ------------------------------------------------------------- MQTT encoding */

static uint8_t *put_len(uint8_t *p, size_t n)
{
	do {
		uint8_t b = n % 128;
		n /= 128;
		*p++ = b | (n ? 128 : 0);
	} while (n);
	return p;
}

static uint8_t *put_str(uint8_t *p, const char *s, size_t n)
{
	*p++ = (uint8_t)(n >> 8);
	*p++ = (uint8_t)n;
	memcpy(p, s, n);
	return p + n;
}

static void send_connect(conn *c)
{
	char id[256], cid[256], user[1024], pass[2048];
	uint8_t body[4096], *p = body, pkt[4200], *q = pkt;
	dev_name(id, sizeof id, c->dev);
	size_t cl = expand(cid, sizeof cid, c->sub ? "bench-sub-%s" : o.client_id, id, c->dev);
	const char *ut = o.user;
	if (!ut && o.mode == M_DPS)
		ut = "%S/registrations/%s/api-version=2019-03-31";
	else if (!ut && (o.sas_key || o.sas_group_key || o.keyfile))
		ut = "%h/%s/?api-version=2021-04-12";
	int has_pass = make_password(pass, sizeof pass, id, c->dev);
	size_t ul = ut ? expand(user, sizeof user, ut, id, c->dev) : 0;
	p = put_str(p, o.proto_level == 3 ? "MQIsdp" : "MQTT", o.proto_level == 3 ? 6 : 4);
	*p++ = (uint8_t)o.proto_level;
	*p++ = (uint8_t)((o.clean ? 2 : 0) | (ut ? 0x80 : 0) | (has_pass ? 0x40 : 0));
	*p++ = (uint8_t)(o.keepalive >> 8);
	*p++ = (uint8_t)o.keepalive;
	p = put_str(p, cid, cl);
	if (ut)
		p = put_str(p, user, ul);
	if (has_pass)
		p = put_str(p, pass, strlen(pass));
	*q++ = 0x10;
	q = put_len(q, (size_t)(p - body));
	memcpy(q, body, (size_t)(p - body));
	q += p - body;
	queue(c, pkt, (size_t)(q - pkt));
	c->state = S_CONNACK;
}

static void send_subscribe(conn *c, const char *filter, int qos)
{
	uint8_t b[700], *p = b;
	size_t n = strlen(filter);
	*p++ = 0x82;
	p = put_len(p, 2 + 2 + n + 1);
	*p++ = 0;
	*p++ = 1;
	p = put_str(p, filter, n);
	*p++ = (uint8_t)qos;
	queue(c, b, (size_t)(p - b));
	c->state = S_SUBACK;
}

static void send_publish(conn *c, const char *topic, const void *body, size_t n, int qos, int pid)
{
	uint8_t b[4096], *p = b;
	size_t tl = strlen(topic);
	if (tl + n + 16 > sizeof b)
		die("publish too large");
	*p++ = (uint8_t)(0x30 | qos << 1);
	p = put_len(p, 2 + tl + (qos ? 2 : 0) + n);
	p = put_str(p, topic, tl);
	if (qos) {
		*p++ = (uint8_t)(pid >> 8);
		*p++ = (uint8_t)pid;
	}
	memcpy(p, body, n);
	p += n;
	queue(c, b, (size_t)(p - b));
}

/* one SUBSCRIBE with every --subscribe filter, QoS 0, as the SDKs do for twins and methods */
static void send_filters(conn *c)
{
	uint8_t body[2100] = { 0, 1 }, b[2200], *p = body + 2, *q = b;
	char id[256], f[512];
	dev_name(id, sizeof id, c->dev);
	for (int i = 0; i < o.nfilters; i++) {
		size_t n = expand(f, sizeof f, o.filters[i], id, c->dev);
		if ((size_t)(p - body) + n + 3 > sizeof body)
			die("--subscribe: too long");
		p = put_str(p, f, n);
		*p++ = 0;
	}
	*q++ = 0x82;
	q = put_len(q, (size_t)(p - body));
	memcpy(q, body, (size_t)(p - body));
	queue(c, b, (size_t)(q - b) + (size_t)(p - body));
	c->state = S_SUBACK;
}

/* ------------------------------------------------------------------ dps mode */

static void dps_put(conn *c)
{
	char id[256], topic[300], body[400];
	dev_name(id, sizeof id, c->dev);
	snprintf(topic, sizeof topic, "$dps/registrations/PUT/iotdps-register/?$rid=%d", ++c->rid);
	int n = snprintf(body, sizeof body, "{\"registrationId\":\"%s\"}", id);
	send_publish(c, topic, body, (size_t)n, 1, c->rid + 1);
	c->state = S_DPS_PUT;
}

static void dps_get(conn *c)
{
	char topic[400];
	snprintf(topic, sizeof topic,
		 "$dps/registrations/GET/iotdps-get-operationstatus/?$rid=%d&operationId=%s",
		 ++c->rid, c->opid);
	send_publish(c, topic, "", 0, 1, c->rid + 1);
	c->state = S_DPS_GET;
}

/* value of a top-level-ish JSON string member; good enough for a benchmark client */
static int json_str(const char *j, const char *name, char *d, size_t cap)
{
	char pat[64];
	snprintf(pat, sizeof pat, "\"%s\"", name);
	const char *p = strstr(j, pat);
	if (!p)
		return 0;
	p += strlen(pat);
	while (*p == ' ' || *p == ':' || *p == '\t' || *p == '\n' || *p == '\r')
		p++;
	if (*p++ != '"')
		return 0;
	size_t n = 0;
	while (*p && *p != '"' && n + 1 < cap)
		d[n++] = *p++;
	d[n] = 0;
	return 1;
}

static void op_done(conn *c, uint64_t t)
{
	W *w = c->w;
	h_add(w->op, t - c->t0);
	w->done++;
	w->acked++;
	w->t_end = t;
	if (o.trace)
		fprintf(o.trace, "%ld %llu %llu %d %d %d\n", (long)c->dev, (unsigned long long)(c->t0 / 1000000),
			(unsigned long long)(t / 1000000), c->n202, c->n429, c->longest);
	if (!http_mode()) {
		static const uint8_t disc[2] = { 0xe0, 0 };
		uint32_t g = c->gen;
		queue(c, disc, 2);
		if (flush(c) < 0 || c->gen != g) {
			w->done--;      /* conn_fail counted it; it had succeeded */
			w->nfail--;
			return;
		}
	}
	conn_close(c, 1);
}

static void dps_response(conn *c, const char *topic, size_t tl, const uint8_t *body, size_t n)
{
	char t[300], j[8192], st[40] = "";
	if (tl >= sizeof t)
		tl = sizeof t - 1;
	memcpy(t, topic, tl);
	t[tl] = 0;
	if (n >= sizeof j)
		n = sizeof j - 1;
	memcpy(j, body, n);
	j[n] = 0;
	if (strncmp(t, "$dps/registrations/res/", 23) || (c->state != S_DPS_PUT && c->state != S_DPS_GET))
		return;
	int code = atoi(t + 23), ra = 2;
	const char *p = strstr(t, "$rid=");
	if (!p || atoi(p + 5) != c->rid)
		return;
	if ((p = strstr(t, "retry-after=")))
		ra = atoi(p + 12);
	json_str(j, "status", st, sizeof st);
	if (code == 200 && !strcmp(st, "assigned")) {
		op_done(c, now_ns());
		return;
	}
	if (code == 202 || code == 429 || (code == 200 && !strcmp(st, "assigning"))) {
		if (code != 429 && !json_str(j, "operationId", c->opid, sizeof c->opid) && !c->opid[0]) {
			conn_fail(c, "no operationId in response");
			return;
		}
		if (code == 202)
			c->w->pings++;          /* polls, reported as polls= */
		c->n202 += code == 202;
		c->n429 += code == 429;
		c->longest = ra > c->longest ? ra : c->longest;
		if (o.no_wait || ra <= 0) {
			if (c->opid[0])
				dps_get(c);
			else
				dps_put(c);
			return;
		}
		c->state = S_DPS_SLEEP;
		c->due = now_ns() + (uint64_t)ra * 1000000000ull;
		return;
	}
	char why[80];
	snprintf(why, sizeof why, "status %d %s", code, st);
	conn_fail(c, why);
}

/* ------------------------------------------------------------------ pub mode */

static int hexd(int c)
{
	return c >= '0' && c <= '9' ? c - '0' : c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
}

static void put_ts(uint8_t *p, uint64_t t)
{
	static const char h[] = "0123456789abcdef";
	for (int i = 15; i >= 0; i--, t >>= 4)
		p[i] = (uint8_t)h[t & 15];
}

static void pub_prepare(conn *c)
{
	char id[256], topic[512];
	dev_name(id, sizeof id, c->dev);
	size_t tl = expand(topic, sizeof topic, o.topic, id, c->dev);
	size_t body = 2 + tl + (o.qos ? 2 : 0) + (size_t)o.size;
	uint8_t *b = xmalloc(body + 8), *p = b;
	*p++ = (uint8_t)(0x30 | o.qos << 1);
	p = put_len(p, body);
	p = put_str(p, topic, tl);
	c->tmpl_pid = (size_t)(p - b);
	if (o.qos)
		p += 2;
	memset(p, 'x', (size_t)o.size);
	c->tmpl_ts = 0;
	if (o.size >= 32) {             /* {"t":"<16 hex>","v":"xxx..."} */
		memcpy(p, "{\"t\":\"", 6);
		c->tmpl_ts = (size_t)(p - b) + 6;
		memcpy(p + 22, "\",\"v\":\"", 7);
		memcpy(p + o.size - 2, "\"}", 2);
	}
	p += o.size;
	c->tmpl = b;
	c->tmpl_len = (size_t)(p - b);
	c->t_sent = xcalloc((size_t)o.window, sizeof *c->t_sent);
	c->freeslot = xcalloc((size_t)o.window, sizeof *c->freeslot);
	c->nfree = o.window;
	for (int i = 0; i < o.window; i++)
		c->freeslot[i] = (uint16_t)(o.window - 1 - i);
}

static int pub_one(conn *c, uint64_t t)         /* queues one PUBLISH */
{
	W *w = c->w;
	if (o.qos) {
		int s = c->freeslot[--c->nfree];
		c->t_sent[s] = t;
		c->tmpl[c->tmpl_pid] = (uint8_t)((s + 1) >> 8);
		c->tmpl[c->tmpl_pid + 1] = (uint8_t)(s + 1);
		c->inflight++;
		w->outstanding++;
	}
	if (c->tmpl_ts)
		put_ts(c->tmpl + c->tmpl_ts, t);
	queue(c, c->tmpl, c->tmpl_len);
	w->sent++;
	c->t_last = t;
	if (o.nocoalesce)
		return flush(c);
	return 0;
}

static void pump(conn *c)               /* closed loop: fill the window */
{
	if (c->state != S_RUN || c->sub || atomic_load(&g_phase) != P_RUN || o.rate > 0)
		return;
	uint64_t t = now_ns();
	if (o.qos) {
		while (c->nfree > 0)
			if (pub_one(c, t) < 0)
				return;
		if (c->olen)
			flush(c);
		return;
	}
	if (c->ooff < c->olen && flush(c) < 0)  /* QoS 0: as much as the socket takes */
		return;
	if (c->olen)
		return;
	for (int i = 0; i < o.window; i++)
		if (pub_one(c, t) < 0)
			return;
	if (flush(c) == 0)
		set_events(c, 1);
}

static void connected(conn *c)
{
	W *w = c->w;
	c->state = S_RUN;
	w->connected++;
	c->t_last = now_ns();
	h_add(w->op, c->t_last - c->t0);
	if (o.mode == M_PUB && !c->sub && !c->tmpl)
		pub_prepare(c);
	/* spread the first pings over the keep-alive interval */
	c->due = c->t_last + (uint64_t)(0.75e9 * o.keepalive * ((double)(c - w->c + 1) / (w->nslots + 1)));
}

/* --------------------------------------------------------------- MQTT decode */

static void on_packet(conn *c, uint8_t h, const uint8_t *b, size_t n)
{
	W *w = c->w;
	char why[40];
	switch (h >> 4) {
	case 2:                         /* CONNACK */
		if (c->state != S_CONNACK || n < 2) {
			conn_fail(c, "unexpected CONNACK");
			return;
		}
		if (b[1]) {
			snprintf(why, sizeof why, "rc=%d", b[1]);
			conn_fail(c, why);
			return;
		}
		if (o.mode == M_CONNECT)
			op_done(c, now_ns());
		else if (o.mode == M_DPS)
			send_subscribe(c, "$dps/registrations/res/#", 1);
		else if (c->sub) {
			char id[256], f[512];
			dev_name(id, sizeof id, c->dev);
			expand(f, sizeof f, o.sub_topic, id, c->dev);
			send_subscribe(c, f, o.sub_qos);
		} else if (o.nfilters)
			send_filters(c);
		else
			connected(c);
		return;
	case 9:                         /* SUBACK */
		if (c->state != S_SUBACK)
			return;
		if (n < 3 || b[2] == 0x80) {
			conn_fail(c, "refused");
			return;
		}
		if (o.mode == M_DPS)
			dps_put(c);
		else
			connected(c);
		return;
	case 4: {                       /* PUBACK */
		if (n < 2 || o.mode != M_PUB)
			return;
		int s = (b[0] << 8 | b[1]) - 1;
		if (s < 0 || s >= o.window || !c->t_sent || !c->t_sent[s]) {
			fail(w, "run: PUBACK for an unknown packet id");
			return;
		}
		h_add(w->ack, now_ns() - c->t_sent[s]);
		c->t_sent[s] = 0;
		c->freeslot[c->nfree++] = (uint16_t)s;
		c->inflight--;
		w->outstanding--;
		w->acked++;
		return;
	}
	case 3: {                       /* PUBLISH */
		int qos = h >> 1 & 3;
		if (n < 2)
			return;
		size_t tl = (size_t)(b[0] << 8 | b[1]), off = 2 + tl + (qos ? 2 : 0);
		if (off > n) {
			conn_fail(c, "malformed PUBLISH");
			return;
		}
		if (qos) {
			uint8_t a[4] = { 0x40, 2, b[2 + tl], b[3 + tl] };
			queue(c, a, 4);
		}
		if (o.mode == M_DPS) {
			dps_response(c, (const char *)b + 2, tl, b + off, n - off);
			return;
		}
		w->delivered++;
		if (n - off >= 32 && b[off] == '{' && b[off + 2] == 't') {
			uint64_t t = 0;
			for (int i = 0; i < 16; i++)
				t = t << 4 | (uint64_t)hexd(b[off + 6 + (size_t)i]);
			uint64_t k = now_ns();
			if (t < k)
				h_add(w->e2e, k - t);
		}
		return;
	}
	case 13:                        /* PINGRESP */
		w->pongs++;
		if (c->ping_out) {
			c->ping_out = 0;
			if (o.mode == M_HOLD)
				h_add(w->ack, now_ns() - c->t_last);
			else if (w->outstanding)
				w->outstanding--;
		}
		return;
	default:
		return;
	}
}

static size_t feed_mqtt(conn *c, const uint8_t *b, size_t n)    /* returns bytes used */
{
	size_t i = 0;
	uint32_t g = c->gen;
	while (n - i >= 2) {
		size_t len = 0, k = i + 1;
		int sh = 0, ok = 0;
		while (k < n && sh < 28) {
			len |= (size_t)(b[k] & 127) << sh;
			sh += 7;
			if (!(b[k++] & 128)) {
				ok = 1;
				break;
			}
		}
		if (!ok) {
			if (sh >= 28) {
				conn_fail(c, "bad remaining length");
				return n;
			}
			break;
		}
		if (len > RBUF / 2) {
			conn_fail(c, "packet too large");
			return n;
		}
		if (n - k < len)
			break;
		on_packet(c, b[i], b + k, len);
		if (c->gen != g)
			return n;
		i = k + len;
	}
	return i;
}

/* ---------------------------------------------------------------------- http */

static long pick_dev(W *w);

/* the next request of http -n: every one for a device of its own */
static int http_next(conn *c)
{
	if (o.n == 0)
		return 1;
	if (c->w->http_left <= 0)
		return 0;
	c->dev = pick_dev(c->w);
	return 1;
}

static void send_http(conn *c)
{
	char b[6144], id[256], path[1024], hdr[2500] = "", body[2048];
	size_t n, bn = (size_t)o.size;
	const void *bp = filler;
	dev_name(id, sizeof id, c->dev);
	expand(path, sizeof path, o.path, id, c->dev);
	if (o.header) {
		size_t k = expand(hdr, sizeof hdr - 3, o.header, id, c->dev);
		memcpy(hdr + k, "\r\n", 3);
	}
	int post = !strcmp(o.method, "POST") || !strcmp(o.method, "PUT") || !strcmp(o.method, "PATCH");
	char cl[64] = "";
	if (post && o.body) {
		bn = expand(body, sizeof body, o.body, id, c->dev);
		bp = body;
	}
	if (post)
		snprintf(cl, sizeof cl, "Content-Length: %zu\r\n", bn);
	n = (size_t)snprintf(b, sizeof b, "%s %s HTTP/1.1\r\nHost: %s\r\n%s%s%s\r\n", o.method, path, o.hub,
			     hdr, cl, o.mode == M_TLS ? "Connection: close\r\n" : "");
	if (n >= sizeof b)
		die("request too large");
	queue_raw(c, b, n);
	if (post)
		queue_raw(c, bp, bn);
	c->state = S_HTTP;
	c->t_last = now_ns();
	if (o.mode == M_HTTP) {
		c->w->http_left--;
		c->w->sent++;
		c->w->outstanding++;
		c->inflight = 1;
	}
}

static size_t feed_http(conn *c, const uint8_t *b, size_t n)
{
	W *w = c->w;
	const uint8_t *e = memmem(b, n, "\r\n\r\n", 4);
	if (!e)
		return 0;
	size_t hl = (size_t)(e - b) + 4, need = hl;
	int code = n > 12 ? atoi((const char *)b + 9) : 0;
	char h[8192];
	size_t hc = hl < sizeof h - 1 ? hl : sizeof h - 1;
	memcpy(h, b, hc);
	h[hc] = 0;
	const char *p = strcasestr(h, "\r\ncontent-length:");
	if (p)
		need += (size_t)atol(p + 17);
	else if (strcasestr(h, "\r\ntransfer-encoding: chunked")) {
		const uint8_t *z = memmem(b + hl - 2, n - hl + 2, "\r\n0\r\n\r\n", 7);
		if (!z)
			return 0;
		need = (size_t)(z - b) + 7;
	}
	if (n < need)
		return 0;
	if (code < 200 || code > 299) {
		char why[40];
		snprintf(why, sizeof why, "status %d", code);
		if (o.mode == M_TLS) {
			conn_fail(c, why);
			return n;
		}
		fail(w, "http: %s", why);
	}
	if (o.mode == M_TLS) {
		op_done(c, now_ns());
		return n;
	}
	h_add(w->ack, now_ns() - c->t_last);
	w->acked++;
	w->outstanding--;
	c->inflight = 0;
	if (o.n && w->http_left <= 0 && w->outstanding == 0)
		g_stop = 1;
	if (atomic_load(&g_phase) == P_RUN && o.rate <= 0 && http_next(c))
		send_http(c);
	return need;
}

/* ------------------------------------------------- WebSocket (MQTT over wss) */

static void send_upgrade(conn *c)
{
	char b[1024];
	int n = snprintf(b, sizeof b,
			 "GET %s HTTP/1.1\r\nHost: %s\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
			 "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n"
			 "Sec-WebSocket-Protocol: mqtt\r\n\r\n", o.ws, o.hub);
	queue_raw(c, b, (size_t)n);
	c->state = S_WSUP;
}

static void keep(uint8_t **p, size_t *pl, const uint8_t *b, size_t n)
{
	free(*p);
	*p = NULL;
	*pl = n;
	if (n) {
		*p = xmalloc(n);
		memcpy(*p, b, n);
	}
}

/* unframes server frames into wbuf after the mqtt leftover, then feeds mqtt */
static size_t feed_ws(conn *c, uint8_t *b, size_t n)
{
	W *w = c->w;
	size_t i = 0, m = 0;
	uint32_t g = c->gen;
	if (c->state == S_WSUP) {
		uint8_t *e = memmem(b, n, "\r\n\r\n", 4);
		if (!e)
			return 0;
		if (n < 12 || memcmp(b + 9, "101", 3)) {
			conn_fail(c, "upgrade refused");
			return n;
		}
		i = (size_t)(e - b) + 4;
		send_connect(c);
	}
	if (c->mpl) {
		memcpy(w->wbuf, c->mp, c->mpl);
		m = c->mpl;
		keep(&c->mp, &c->mpl, NULL, 0);
	}
	while (n - i >= 2) {
		uint64_t len = b[i + 1] & 127;
		size_t k = i + 2;
		int op = b[i] & 15;
		if (len == 126) {
			if (n - i < 4)
				break;
			len = (uint64_t)(b[i + 2] << 8 | b[i + 3]);
			k += 2;
		} else if (len == 127) {
			if (n - i < 10)
				break;
			len = 0;
			for (int j = 0; j < 8; j++)
				len = len << 8 | b[i + 2 + (size_t)j];
			k += 8;
		}
		if (n - k < len)
			break;
		if (op == 8) {
			conn_fail(c, "websocket close");
			return n;
		}
		if (op <= 2 && m + len <= RBUF) {
			memcpy(w->wbuf + m, b + k, (size_t)len);
			m += (size_t)len;
		}
		i = k + (size_t)len;
	}
	size_t u = feed_mqtt(c, w->wbuf, m);
	if (c->gen != g)
		return n;
	keep(&c->mp, &c->mpl, w->wbuf + u, m - u);
	return i;
}

/* ------------------------------------------------------------ driving a conn */

static void after_tls(conn *c)
{
	W *w = c->w;
	uint64_t t = now_ns();
	if (c->ssl) {
		h_add(w->tls, t - c->t_tcp);
		if (SSL_session_reused(c->ssl))
			w->resumed++;
	}
	if (o.mode == M_TLS) {
		if (!o.path) {
			op_done(c, t);
			return;
		}
		send_http(c);
	} else if (o.mode == M_HTTP) {
		w->connected++;
		c->state = S_HTTP;
		h_add(w->op, t - c->t0);
		return;
	} else if (o.ws)
		send_upgrade(c);
	else
		send_connect(c);
	flush(c);
}

static void do_read(conn *c)
{
	W *w = c->w;
	uint32_t g = c->gen;
	for (;;) {
		uint8_t **lp = o.ws ? &c->tp : &c->mp;
		size_t *ll = o.ws ? &c->tpl : &c->mpl, off = *ll;
		if (off)
			memcpy(w->rbuf, *lp, off);
		if (off >= RBUF) {
			conn_fail(c, "message too large");
			return;
		}
		long r = xread(c, w->rbuf + off, RBUF - off);
		if (r <= 0)
			break;
		size_t n = off + (size_t)r;
		size_t u = o.ws ? feed_ws(c, w->rbuf, n) : http_mode() ? feed_http(c, w->rbuf, n)
								   : feed_mqtt(c, w->rbuf, n);
		if (c->gen != g)
			return;
		keep(lp, ll, w->rbuf + u, n - u);
		if (!c->ssl || !SSL_has_pending(c->ssl))
			break;
	}
	if (c->gen != g)
		return;
	if (o.mode == M_PUB)
		pump(c);
	if (c->gen == g && c->olen)
		flush(c);
}

static void drive(conn *c, uint32_t ev)
{
	if (c->state == S_FREE)
		return;
	if (c->state == S_TCP) {
		int e = 0;
		socklen_t l = sizeof e;
		getsockopt(c->fd, SOL_SOCKET, SO_ERROR, &e, &l);
		if (e) {
			conn_fail(c, strerror(e));
			return;
		}
		if (!(ev & EPOLLOUT))
			return;
		c->t_tcp = now_ns();
		set_events(c, 0);
		if (o.plain) {
			after_tls(c);
			return;
		}
		c->ssl = tls_new(c->fd, c->dev);
		c->state = S_TLS;
	}
	if (c->state == S_TLS) {
		errno = 0;
		int r = SSL_do_handshake(c->ssl);
		if (r == 1) {
			uint32_t g = c->gen;
			after_tls(c);
			if (c->gen == g && SSL_has_pending(c->ssl))
				do_read(c);
			return;
		}
		int e = SSL_get_error(c->ssl, r);
		if (e == SSL_ERROR_WANT_READ)
			set_events(c, 0);
		else if (e == SSL_ERROR_WANT_WRITE)
			set_events(c, 1);
		else
			conn_fail(c, tls_why(e));
		return;
	}
	uint32_t g = c->gen;
	if (ev & (EPOLLIN | EPOLLHUP | EPOLLERR))
		do_read(c);
	if (c->gen == g && (ev & EPOLLOUT)) {
		if (flush(c) == 0 && c->olen == 0 && o.mode == M_PUB && !o.qos)
			pump(c);
	}
}

static void start_conn(W *w, conn *c, long dev)
{
	int one = 1;
	c->w = w;
	c->dev = dev;
	c->n202 = c->n429 = c->longest = 0;
	c->t0 = now_ns();
	c->eout = 1;
	c->inflight = c->ping_out = 0;
	c->rid = 0;
	c->opid[0] = 0;
	c->state = S_TCP;
	w->active++;
	w->started++;
	c->fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
	if (c->fd < 0) {
		conn_fail(c, strerror(errno));
		return;
	}
	setsockopt(c->fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
	if (dst_loop && o.srcs > 1) {   /* more than one source address: more than 28k ports */
		struct sockaddr_in s = { .sin_family = AF_INET };
		s.sin_addr.s_addr = htonl(0x7f000001u + (uint32_t)(w->started * o.threads + w->idx) % (uint32_t)o.srcs);
		setsockopt(c->fd, IPPROTO_IP, IP_BIND_ADDRESS_NO_PORT, &one, sizeof one);
		if (bind(c->fd, (struct sockaddr *)&s, sizeof s)) {
			conn_fail(c, strerror(errno));
			return;
		}
	}
	if (connect(c->fd, (struct sockaddr *)&dst, sizeof dst) && errno != EINPROGRESS) {
		conn_fail(c, strerror(errno));
		return;
	}
	struct epoll_event e = { .events = EPOLLIN | EPOLLOUT, .data.ptr = c };
	if (epoll_ctl(w->ep, EPOLL_CTL_ADD, c->fd, &e))
		die("epoll_ctl: %s", strerror(errno));
}

static long ndev(void)
{
	if (o.devices)
		return o.devices;
	if (dev_file_n)
		return dev_file_n;
	return persistent() ? o.clients + o.subs : o.n;
}

static long pick_dev(W *w)
{
	uint64_t k = (uint64_t)(w->next_op++ * o.threads + w->idx);
	return o.first + (long)(k * (uint64_t)o.stride % (uint64_t)ndev());
}

/* starts what may be started now; returns 1 when more is waiting on the rate */
static int start_more(W *w)
{
	int conc = (o.conc + o.threads - 1) / o.threads;
	double allowed = 1e18;
	uint64_t t = now_ns();
	if (o.rate > 0 && o.mode != M_PUB && o.mode != M_HTTP)
		allowed = o.rate / o.threads * (double)(t - w->t_start) / 1e9 + 1;
	if (persistent()) {
		while (w->started < w->nslots) {
			long busy = w->started - w->connected - w->failed_ramp;
			if (busy >= conc)
				return 0;
			if ((double)w->started >= allowed)
				return 1;
			conn *c = &w->c[w->started];
			c->sub = w->started < w->nsubs;
			start_conn(w, c, pick_dev(w));
		}
		return 0;
	}
	if (g_stop || (o.dur > 0 && o.n == 0 && (double)(t - w->t_start) / 1e9 >= o.dur))
		w->ops_left = 0;
	while (w->ops_left > 0 && w->nidle > 0) {
		if ((double)w->started >= allowed)
			return 1;
		w->ops_left--;
		conn *c = &w->c[w->idle[--w->nidle]];
		start_conn(w, c, pick_dev(w));
	}
	while (redo_n > 0 && redo[redo_first].due <= t && w->nidle > 0) {
		conn *c = &w->c[w->idle[--w->nidle]];
		uint64_t t0 = redo[redo_first].t0;
		long dev = redo[redo_first].dev;
		redo_first = (redo_first + 1) % REDO_MAX;
		redo_n--;
		start_conn(w, c, dev);
		if (c->state != S_FREE)
			c->t0 = t0;
	}
	return 0;
}

static void paced(W *w)                 /* pub/http with --rate */
{
	uint64_t t = now_ns();
	double due = o.rate / o.threads * (double)(t - atomic_load(&g_t_run)) / 1e9;
	int tries = 0;
	while ((double)w->sent_paced < due && tries < w->nslots) {
		conn *c = &w->c[w->rr++ % w->nslots];
		tries++;
		if (c->sub || c->state == S_FREE || (o.mode == M_PUB && c->state != S_RUN))
			continue;
		if (o.mode == M_HTTP) {
			if (c->inflight)
				continue;
			send_http(c);
		} else {
			if (o.qos ? c->nfree == 0 : c->olen > 65536)
				continue;
			if (pub_one(c, now_ns()) < 0)
				continue;
		}
		if (c->state != S_FREE)
			flush(c);
		w->sent_paced++;
		tries = 0;
	}
}

static void tick(W *w, uint64_t t)      /* every 10 ms or so */
{
	uint64_t lim = (uint64_t)(o.timeout * 1e9);
	static const uint8_t ping[2] = { 0xc0, 0 };
	int ph = atomic_load(&g_phase);
	for (int i = 0; i < w->nslots; i++) {
		conn *c = &w->c[i];
		switch (c->state) {
		case S_FREE:
			break;
		case S_DPS_SLEEP:
			if (t >= c->due) {
				if (c->opid[0])
					dps_get(c);
				else
					dps_put(c);
				flush(c);
			}
			break;
		case S_RUN:
			if (ph <= P_RUN && o.keepalive && t >= c->due && !c->ping_out && (o.mode == M_HOLD || t - c->t_last > (uint64_t)(0.5e9 * o.keepalive))) {
				c->due = t + (uint64_t)(0.75e9 * o.keepalive);
				c->t_last = t;
				if (o.mode == M_HOLD)
					c->ping_out = 1;
				w->pings++;
				queue(c, ping, 2);
				flush(c);
			} else if (o.mode == M_HOLD && c->ping_out && t - c->t_last > lim)
				conn_fail(c, "ping timeout");
			break;
		case S_HTTP:
			if (o.mode == M_HTTP && !c->inflight)
				break;
			if (t - c->t_last > lim)
				conn_fail(c, "timeout");
			break;
		default:
			if (t - c->t0 > lim)
				conn_fail(c, "timeout");
		}
	}
}

static void *worker_main(void *arg)
{
	W *w = arg;
	struct epoll_event ev[256];
	uint64_t last_tick = 0, t_drain = 0;
	int started_run = 0, draining = 0;
	w->t_start = now_ns();
	for (;;) {
		int more = start_more(w);
		int ph = atomic_load(&g_phase);
		if (persistent()) {
			if (!w->ready && w->connected + w->failed_ramp >= w->nslots) {
				w->ready = 1;
				atomic_fetch_add(&g_ready, 1);
			}
			if (ph == P_RUN && !started_run) {
				started_run = 1;
				if (o.mode == M_HTTP && o.n) {  /* connections took devices, requests begin anew */
					w->next_op = 0;
					w->http_left = o.n;
				}
				for (int i = 0; i < w->nslots; i++) {
					conn *c = &w->c[i];
					if (o.mode == M_PUB)
						pump(c);
					else if (o.mode == M_HTTP && c->state == S_HTTP && o.rate <= 0 && http_next(c)) {
						send_http(c);
						flush(c);
					}
				}
			}
			if (ph == P_RUN && o.rate > 0 && o.mode != M_HOLD)
				paced(w);
			if (ph == P_DRAIN && !draining) {
				draining = 1;
				t_drain = now_ns();
				if (o.mode == M_PUB && !o.qos) {
					static const uint8_t ping[2] = { 0xc0, 0 };
					for (int i = 0; i < w->nslots; i++) {
						conn *c = &w->c[i];
						if (c->state != S_RUN || c->sub)
							continue;
						queue(c, ping, 2);
						c->ping_out = 1;
						w->outstanding++;
						flush(c);
					}
				}
			}
			if (ph == P_DRAIN && !w->drained_flag &&
			    (w->outstanding == 0 || now_ns() - t_drain > (uint64_t)(o.timeout * 1e9))) {
				w->drained_flag = 1;
				w->t_end = now_ns();
				atomic_fetch_add(&g_drained, 1);
			}
			if (ph == P_DONE)
				break;
		} else if (w->active == 0 && w->ops_left <= 0 && redo_n == 0)
			break;
		int to = more || (ph == P_RUN && o.rate > 0 && o.mode != M_HOLD) ? 1 : ph == P_RUN ? 20 : 5;
		if (!persistent())
			to = more ? 1 : 100;
		if (o.mode == M_DPS && to > 10)
			to = 10;
		int n = epoll_wait(w->ep, ev, 256, to);
		for (int i = 0; i < n; i++)
			drive(ev[i].data.ptr, ev[i].events);
		uint64_t t = now_ns();
		if (t - last_tick > (o.mode == M_DPS ? 10000000ull : 50000000ull)) {
			last_tick = t;
			tick(w, t);
		}
	}
	static const uint8_t disc[2] = { 0xe0, 0 };
	for (int i = 0; i < w->nslots; i++) {
		conn *c = &w->c[i];
		if (c->state == S_FREE)
			continue;
		uint32_t g = c->gen;
		if (!http_mode()) {
			queue(c, disc, 2);
			if (flush(c) < 0 || c->gen != g)
				continue;
		}
		conn_close(c, 0);
	}
	return NULL;
}

/* --------------------------------------------------------------- relay mode */
/* Two ends in one process, blocking I/O.
 *   raw:  the sender connects by TLS to HOST:PORT; the relay under test connects on to
 *         our sink on --sink-port (TLS when --sink-cert is given), which counts bytes.
 *   ws:   the sender upgrades on --ws PATH, the receiver on --ws-b PATH of the same
 *         server; the sender sends masked binary frames of --frame bytes. */

static _Atomic uint64_t relay_rx;
struct leg { int fd; SSL *s; };

static long leg_read(struct leg *l, void *b, int n)
{
	return l->s ? SSL_read(l->s, b, n) : recv(l->fd, b, (size_t)n, 0);
}

static long leg_write(struct leg *l, const void *b, int n)
{
	return l->s ? SSL_write(l->s, b, n) : send(l->fd, b, (size_t)n, MSG_NOSIGNAL);
}

static int leg_write_all(struct leg *l, const uint8_t *b, size_t n)
{
	while (n) {
		long r = leg_write(l, b, n > 1 << 20 ? 1 << 20 : (int)n);
		if (r <= 0)
			return -1;
		b += r;
		n -= (size_t)r;
	}
	return 0;
}

static struct leg leg_dial(const char *ws, const char *header)
{
	struct leg l = { .fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0) };
	int one = 1;
	if (l.fd < 0 || connect(l.fd, (struct sockaddr *)&dst, sizeof dst))
		die("relay: connect: %s", strerror(errno));
	setsockopt(l.fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
	if (!o.plain) {
		l.s = tls_new(l.fd, 0);
		if (SSL_connect(l.s) != 1)
			tls_die("relay: TLS");
	}
	if (ws) {
		char b[4096];
		int n = snprintf(b, sizeof b,
				 "GET %s HTTP/1.1\r\nHost: %s\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
				 "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n"
				 "%s%s\r\n", ws, o.hub, header ? header : "", header ? "\r\n" : "");
		if (leg_write_all(&l, (uint8_t *)b, (size_t)n))
			die("relay: upgrade write");
		size_t k = 0;           /* byte by byte, to leave frames in the stream */
		while (k < sizeof b - 1 && leg_read(&l, b + k, 1) == 1) {
			k++;
			if (k >= 4 && !memcmp(b + k - 4, "\r\n\r\n", 4))
				break;
		}
		b[k] = 0;
		if (k < 12 || memcmp(b + 9, "101", 3))
			die("relay: upgrade refused: %.60s", b);
	}
	return l;
}

struct rx { struct leg l; int ws; int lfd; SSL_CTX *sctx; };

static void *relay_rx_main(void *arg)
{
	struct rx *r = arg;
	uint8_t *b = xmalloc(1 << 18);
	if (r->lfd >= 0) {
		r->l.fd = accept(r->lfd, NULL, NULL);
		if (r->l.fd < 0)
			return NULL;
		if (r->sctx) {
			r->l.s = SSL_new(r->sctx);
			SSL_set_fd(r->l.s, r->l.fd);
			if (SSL_accept(r->l.s) != 1)
				tls_die("relay: sink TLS");
		}
	}
	uint64_t pay = 0;               /* payload bytes left in the current frame */
	uint8_t hdr[14];
	size_t hn = 0;
	for (;;) {
		long n = leg_read(&r->l, b, 1 << 18);
		if (n <= 0)
			break;
		if (!r->ws) {
			relay_rx += (uint64_t)n;
			continue;
		}
		for (long i = 0; i < n;) {
			if (pay) {
				uint64_t k = pay < (uint64_t)(n - i) ? pay : (uint64_t)(n - i);
				relay_rx += k;
				pay -= k;
				i += (long)k;
				continue;
			}
			hdr[hn++] = b[i++];
			size_t need = 2;
			if (hn >= 2)
				need = (hdr[1] & 127) == 126 ? 4 : (hdr[1] & 127) == 127 ? 10 : 2;
			if (hn < need || hn < 2)
				continue;
			pay = hdr[1] & 127;
			if (need > 2) {
				pay = 0;
				for (size_t j = 2; j < need; j++)
					pay = pay << 8 | hdr[j];
			}
			hn = 0;
			if ((hdr[0] & 15) == 8) {
				free(b);
				return NULL;
			}
		}
	}
	free(b);
	return NULL;
}

static int run_relay(void)
{
	struct rx r = { .lfd = -1 };
	pthread_t th;
	if (o.sink_port) {
		int one = 1;
		struct sockaddr_in a = { .sin_family = AF_INET, .sin_port = htons((uint16_t)o.sink_port) };
		a.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
		r.lfd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
		setsockopt(r.lfd, SOL_SOCKET, SO_REUSEADDR, &one, sizeof one);
		if (bind(r.lfd, (struct sockaddr *)&a, sizeof a) || listen(r.lfd, 16))
			die("relay: sink: %s", strerror(errno));
		if (o.sink_cert) {
			r.sctx = SSL_CTX_new(TLS_server_method());
			SSL_CTX_set_num_tickets(r.sctx, 0);
			if (SSL_CTX_use_certificate_chain_file(r.sctx, o.sink_cert) != 1 ||
			    SSL_CTX_use_PrivateKey_file(r.sctx, o.sink_key, SSL_FILETYPE_PEM) != 1)
				tls_die("relay: --sink-cert/--sink-key");
		}
	} else if (o.ws && o.relay_b) {
		r.ws = 1;
		r.l = leg_dial(o.relay_b, o.header_b ? o.header_b : o.header);
	} else
		die("relay needs --sink-port P (raw) or --ws A --ws-b B");
	/* The sink accepts before the sender dials, so that a proxy's own dial succeeds. */
	pthread_create(&th, NULL, relay_rx_main, &r);
	struct leg tx = leg_dial(r.ws ? o.ws : NULL, o.header);

	size_t fl = (size_t)o.frame, n = 0;
	uint8_t *f = xmalloc(fl + 14);
	if (r.ws) {
		f[n++] = 0x82;
		if (fl < 126)
			f[n++] = (uint8_t)(0x80 | fl);
		else if (fl < 65536) {
			f[n++] = 0x80 | 126;
			f[n++] = (uint8_t)(fl >> 8);
			f[n++] = (uint8_t)fl;
		} else {
			f[n++] = 0x80 | 127;
			for (int i = 7; i >= 0; i--)
				f[n++] = (uint8_t)((uint64_t)fl >> (8 * i));
		}
		RAND_bytes(f + n, 4);
		n += 4;
	}
	RAND_bytes(f + n, (int)fl);     /* random bytes: as good as masked ones */
	n += fl;

	snap s0 = take_snap(1);
	double c0 = self_cpu();
	uint64_t t0 = now_ns(), total = 0, want = (uint64_t)(o.mb * 1e6);
	while (total < want && !g_stop) {
		if (leg_write_all(&tx, f, n)) {
			fprintf(stderr, "mqttload: relay: write failed after %llu bytes\n", (unsigned long long)total);
			break;
		}
		total += fl;
	}
	uint64_t last = relay_rx, tl = now_ns();
	while (relay_rx < total && now_ns() - tl < 5000000000ull) {
		usleep(500);
		if (relay_rx != last) {
			last = relay_rx;
			tl = now_ns();
		}
	}
	double el = (double)(now_ns() - t0) / 1e9;
	snap s1 = take_snap(1);
	double gb = (double)relay_rx / 1e9;
	printf("relay: %.2f GB in %.2f s: %.0f MB/s; generator CPU %.2f s\n", gb, el, gb * 1e3 / el, self_cpu() - c0);
	if (s0.ok)
		printf("server: CPU %.3f s, %.3f CPU s/GB, RSS %ld KiB\n", s1.cpu - s0.cpu, gb > 0 ? (s1.cpu - s0.cpu) / gb : 0, s1.rss);
	int bad = relay_rx != total;
	if (bad)
		printf("LOST: sent %llu received %llu\n", (unsigned long long)total, (unsigned long long)relay_rx);
	printf("RESULT mode=relay label=%s mbps=%.1f gb=%.3f srv_cpu_s_per_gb=%.4f gen_cpu_s=%.2f fail=%d\n",
	       o.label ? o.label : "-", gb * 1e3 / el, gb, gb > 0 ? (s1.cpu - s0.cpu) / gb : 0, self_cpu() - c0, bad);
	fflush(stdout);
	_exit(bad);
}

/* ------------------------------------------------------------------- mkcerts */

static EVP_PKEY *new_key(void)
{
	EVP_PKEY *k = EVP_EC_gen("P-256");
	if (!k)
		tls_die("key");
	return k;
}

static void ext(X509 *x, X509 *issuer, int nid, const char *v)
{
	X509V3_CTX c;
	X509V3_set_ctx(&c, issuer, x, NULL, NULL, 0);
	X509_EXTENSION *e = X509V3_EXT_conf_nid(NULL, &c, nid, v);
	if (!e)
		tls_die("extension");
	X509_add_ext(x, e, -1);
	X509_EXTENSION_free(e);
}

static X509 *new_cert(EVP_PKEY *k, const char *cn, X509 *ca, EVP_PKEY *cak, long serial, int kind)
{
	X509 *x = X509_new();
	X509_set_version(x, 2);
	ASN1_INTEGER_set(X509_get_serialNumber(x), serial);
	X509_gmtime_adj(X509_getm_notBefore(x), -3600);
	X509_gmtime_adj(X509_getm_notAfter(x), 86400L * 30);
	X509_set_pubkey(x, k);
	X509_NAME *nm = X509_get_subject_name(x);
	X509_NAME_add_entry_by_txt(nm, "CN", MBSTRING_ASC, (const unsigned char *)cn, -1, -1, 0);
	X509_set_issuer_name(x, ca ? X509_get_subject_name(ca) : nm);
	if (kind == 0) {
		ext(x, x, NID_basic_constraints, "critical,CA:TRUE");
		ext(x, x, NID_key_usage, "critical,keyCertSign,cRLSign");
		ext(x, x, NID_subject_key_identifier, "hash");
	} else {
		ext(x, ca, NID_basic_constraints, "critical,CA:FALSE");
		ext(x, ca, NID_key_usage, "critical,digitalSignature");
		ext(x, ca, NID_ext_key_usage, kind == 1 ? "serverAuth" : "clientAuth");
		ext(x, ca, NID_authority_key_identifier, "keyid");
		if (kind == 1) {
			char san[400];
			snprintf(san, sizeof san, "DNS:localhost,DNS:%s,IP:127.0.0.1", o.hub);
			ext(x, ca, NID_subject_alt_name, san);
		}
	}
	if (!X509_sign(x, cak, EVP_sha256()))
		tls_die("sign");
	return x;
}

static FILE *out_file(const char *name, int secret)
{
	char p[1024];
	snprintf(p, sizeof p, "%s/%s", o.dir, name);
	int fd = open(p, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, secret ? 0600 : 0644);
	FILE *f = fd >= 0 ? fdopen(fd, "w") : NULL;
	if (!f)
		die("cannot write %s: %s", p, strerror(errno));
	return f;
}

static int run_mkcerts(void)
{
	mkdir(o.dir, 0755);
	EVP_PKEY *cak = new_key(), *sk = new_key();
	X509 *ca = new_cert(cak, "mqttload test CA", NULL, cak, 1, 0);
	X509 *sv = new_cert(sk, o.hub, ca, cak, 2, 1);
	FILE *f = out_file("ca.pem", 0);
	PEM_write_X509(f, ca);
	fclose(f);
	f = out_file("ca.key", 1);
	PEM_write_PrivateKey(f, cak, NULL, NULL, 0, NULL, NULL);
	fclose(f);
	f = out_file("server.pem", 0);
	PEM_write_X509(f, sv);
	fclose(f);
	f = out_file("server.key", 1);
	PEM_write_PrivateKey(f, sk, NULL, NULL, 0, NULL, NULL);
	fclose(f);
	f = out_file("devices.pem", 1);
	for (long i = 0; i < o.n; i++) {
		char id[256];
		dev_name(id, sizeof id, o.first + i);
		EVP_PKEY *k = new_key();
		X509 *x = new_cert(k, id, ca, cak, 100 + i, 2);
		PEM_write_X509(f, x);
		PEM_write_PrivateKey(f, k, NULL, NULL, 0, NULL, NULL);
		X509_free(x);
		EVP_PKEY_free(k);
	}
	fclose(f);
	return 0;
}

/* --------------------------------------------------------------------- floor */
/* Handshakes between two SSL objects in memory, CPU counted apart for each side: what
 * the TLS library alone costs a server.  No socket, no event loop, no protocol. */

static uint64_t cpu_ns(void)
{
	struct timespec t;
	clock_gettime(CLOCK_THREAD_CPUTIME_ID, &t);
	return (uint64_t)t.tv_sec * 1000000000ull + (uint64_t)t.tv_nsec;
}

static int cmp_u64(const void *a, const void *b)
{
	uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;
	return x < y ? -1 : x > y;
}

static void floor_one(const char *name, int ver, int mtls, int resume, int mem)
{
	char ca[1024], sc[1024], sk[1024], dv[1024];
	snprintf(ca, sizeof ca, "%s/ca.pem", o.dir);
	snprintf(sc, sizeof sc, "%s/server.pem", o.dir);
	snprintf(sk, sizeof sk, "%s/server.key", o.dir);
	snprintf(dv, sizeof dv, "%s/devices.pem", o.dir);
	SSL_CTX *S = SSL_CTX_new(TLS_server_method()), *C = SSL_CTX_new(TLS_client_method());
	SSL_SESSION *se = NULL;
	if (SSL_CTX_use_certificate_file(S, sc, SSL_FILETYPE_PEM) != 1 ||
	    SSL_CTX_use_PrivateKey_file(S, sk, SSL_FILETYPE_PEM) != 1 ||
	    SSL_CTX_load_verify_locations(S, ca, NULL) != 1 || SSL_CTX_load_verify_locations(C, ca, NULL) != 1)
		tls_die("floor: --dir");
	SSL_CTX_set_session_id_context(S, (const unsigned char *)"f", 1);
	SSL_CTX_set_session_cache_mode(S, SSL_SESS_CACHE_OFF);
	if (!resume)
		SSL_CTX_set_num_tickets(S, 0), SSL_CTX_set_options(S, SSL_OP_NO_TICKET);
	SSL_CTX_set_min_proto_version(C, ver);
	SSL_CTX_set_max_proto_version(C, ver);
	SSL_CTX_set_verify(C, SSL_VERIFY_PEER, NULL);
	if (o.groups)
		SSL_CTX_set1_groups_list(C, o.groups);
	if (mtls) {
		SSL_CTX_set_verify(S, SSL_VERIFY_PEER | SSL_VERIFY_FAIL_IF_NO_PEER_CERT, NULL);
		if (mtls == 2)          /* as a server that knows the certificate by its hash */
			SSL_CTX_set_cert_verify_callback(S, accept_any, NULL);
		if (SSL_CTX_use_certificate_file(C, dv, SSL_FILETYPE_PEM) != 1 ||
		    SSL_CTX_use_PrivateKey_file(C, dv, SSL_FILETYPE_PEM) != 1)
			tls_die("floor: devices.pem");
	}
	/* A server with CA certificates in its own store otherwise searches them for its own
	 * chain, and verifies it, in every handshake, and sends the root along. */
	if (mtls != 3) {
		SSL_CTX_set_mode(S, SSL_MODE_NO_AUTO_CHAIN);
		SSL_CTX_set_mode(C, SSL_MODE_NO_AUTO_CHAIN);
	}
	if (mem)
		SSL_CTX_set_mode(S, SSL_MODE_RELEASE_BUFFERS);
	long n = o.n + (resume ? 1 : 0);
	SSL **kept = xcalloc((size_t)n, sizeof *kept);
	size_t m0 = 0;
	uint64_t *sv = xcalloc((size_t)n, sizeof *sv), *cv = xcalloc((size_t)n, sizeof *cv);
	long reused = 0;
	for (long i = 0; i < n; i++) {
		if (i == n / 10)        /* after the one-time allocations */
			m0 = mallinfo2().uordblks;
		uint64_t a = cpu_ns(), b;
		SSL *s = SSL_new(S);
		SSL_set_accept_state(s);
		sv[i] = cpu_ns() - a;
		SSL *c = SSL_new(C);
		SSL_set_connect_state(c);
		if (se)
			SSL_set_session(c, se);
		BIO *bs, *bc;
		BIO_new_bio_pair(&bs, 65536, &bc, 65536);
		SSL_set_bio(s, bs, bs);
		SSL_set_bio(c, bc, bc);
		for (int k = 0; k < 20 && !(SSL_is_init_finished(s) && SSL_is_init_finished(c)); k++) {
			a = cpu_ns();
			SSL_do_handshake(c);
			b = cpu_ns();
			SSL_do_handshake(s);
			sv[i] += cpu_ns() - b;
			cv[i] += b - a;
		}
		if (!SSL_is_init_finished(s) || !SSL_is_init_finished(c))
			tls_die("floor: handshake");
		/* one byte each way, so that tickets are read and the last flight is checked */
		char ch = 'x';
		a = cpu_ns();
		SSL_write(s, &ch, 1);
		b = cpu_ns();
		sv[i] += b - a;
		SSL_read(c, &ch, 1);
		SSL_write(c, &ch, 1);
		a = cpu_ns();
		cv[i] += a - b;
		if (SSL_read(s, &ch, 1) != 1)
			tls_die("floor: read");
		reused += SSL_session_reused(c);
		if (resume) {
			if (se)
				SSL_SESSION_free(se);
			se = SSL_get1_session(c);
		}
		SSL_set_shutdown(c, SSL_SENT_SHUTDOWN | SSL_RECEIVED_SHUTDOWN);
		if (mem) {
			BIO *nb = BIO_new(BIO_s_socket());      /* as on a real connection */
			SSL_set_bio(s, nb, nb);
			SSL_free(c);
			kept[i] = s;
			continue;
		}
		SSL_set_shutdown(s, SSL_SENT_SHUTDOWN | SSL_RECEIVED_SHUTDOWN);
		SSL_free(s);
		sv[i] += cpu_ns() - a;
		SSL_free(c);
	}
	if (mem) {
		size_t m1 = mallinfo2().uordblks;
		printf("RESULT mode=floor label=%s n=%ld kib_per_conn=%.2f\n", name, n,
		       (double)(m1 - m0) / 1024 / (double)(n - n / 10));
		for (long i = 0; i < n; i++)
			SSL_free(kept[i]);
		goto out;
	}
	long f = resume ? 1 : 0;
	qsort(sv + f, (size_t)o.n, sizeof *sv, cmp_u64);
	qsort(cv + f, (size_t)o.n, sizeof *cv, cmp_u64);
	double sm = (double)sv[f + o.n / 2] / 1e3, cm = (double)cv[f + o.n / 2] / 1e3;
	printf("RESULT mode=floor label=%s n=%ld reused=%ld srv_us_per_op=%.1f client_us_per_op=%.1f srv_per_core_s=%.0f\n",
	       name, o.n, reused, sm, cm, 1e6 / sm);
out:
	if (se)
		SSL_SESSION_free(se);
	free(kept);
	SSL_CTX_free(S);
	SSL_CTX_free(C);
	free(sv);
	free(cv);
}

static void floor_x509(void)
{
	char p[1024];
	snprintf(p, sizeof p, "%s/devices.pem", o.dir);
	BIO *b = BIO_new_file(p, "r");
	X509 *x = b ? PEM_read_bio_X509(b, NULL, NULL, NULL) : NULL;
	EVP_PKEY *k = x ? PEM_read_bio_PrivateKey(b, NULL, NULL, NULL) : NULL;
	unsigned char *der = NULL, sig[128], msg[64] = "x";
	int dl = x ? i2d_X509(x, &der) : 0;
	if (dl <= 0 || !k)
		tls_die("floor: devices.pem");
	EVP_MD_CTX *m = EVP_MD_CTX_new();
	uint64_t t[4] = {0}, a;
	size_t sl = sizeof sig;
	for (long i = 0; i < o.n; i++) {
		const unsigned char *q = der;
		a = cpu_ns();
		X509 *y = d2i_X509(NULL, &q, dl);
		t[0] += cpu_ns() - a;
		a = cpu_ns();
		EVP_PKEY *pk = X509_get0_pubkey(y);
		t[1] += cpu_ns() - a;
		a = cpu_ns();
		sl = sizeof sig;
		EVP_DigestSignInit(m, NULL, EVP_sha256(), NULL, k);
		EVP_DigestSign(m, sig, &sl, msg, sizeof msg);
		EVP_MD_CTX_reset(m);
		t[2] += cpu_ns() - a;
		a = cpu_ns();
		EVP_DigestVerifyInit(m, NULL, EVP_sha256(), NULL, pk);
		if (EVP_DigestVerify(m, sig, sl, msg, sizeof msg) != 1)
			tls_die("floor: verify");
		EVP_MD_CTX_reset(m);
		t[3] += cpu_ns() - a;
		X509_free(y);
	}
	printf("RESULT mode=floor label=x509-steps n=%ld d2i_us=%.1f pubkey_decode_us=%.1f ecdsa_sign_us=%.1f "
	       "ecdsa_verify_us=%.1f\n", o.n, (double)t[0] / 1e3 / (double)o.n, (double)t[1] / 1e3 / (double)o.n,
	       (double)t[2] / 1e3 / (double)o.n, (double)t[3] / 1e3 / (double)o.n);
}

static int run_floor(void)
{
	printf("library: %s\n", OpenSSL_version(OPENSSL_VERSION));
	floor_x509();
	floor_one("tls13", TLS1_3_VERSION, 0, 0, 0);
	floor_one("tls13-mtls", TLS1_3_VERSION, 1, 0, 0);
	floor_one("tls13-mtls-pinned", TLS1_3_VERSION, 2, 0, 0);
	floor_one("tls13-mtls-autochain", TLS1_3_VERSION, 3, 0, 0);
	floor_one("tls13-resumed", TLS1_3_VERSION, 0, 1, 0);
	floor_one("tls12", TLS1_2_VERSION, 0, 0, 0);
	floor_one("tls12-mtls", TLS1_2_VERSION, 1, 0, 0);
	floor_one("tls12-resumed", TLS1_2_VERSION, 0, 1, 0);
	floor_one("idle-tls13", TLS1_3_VERSION, 0, 0, 1);
	floor_one("idle-tls13-mtls", TLS1_3_VERSION, 1, 0, 1);
	floor_one("idle-tls12", TLS1_2_VERSION, 0, 0, 1);
	return 0;
}

/* ---------------------------------------------------------------------- disk */

static int run_disk(void)
{
	char p[1024];
	uint8_t *b = xmalloc((size_t)o.size);
	RAND_bytes(b, o.size);
	for (int pre = 0; pre < 2; pre++) {
		snprintf(p, sizeof p, "%s/mqttload-disk.%d", o.dir, (int)getpid());
		int fd = open(p, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
		if (fd < 0)
			die("cannot write %s: %s", p, strerror(errno));
		if (pre)        /* written once before, so that a sync has no metadata to commit */
			for (long i = 0; i < o.n; i++)
				if (pwrite(fd, b, (size_t)o.size, (off_t)i * o.size) != o.size)
					die("disk: %s", strerror(errno));
		fsync(fd);
		hist *h = xcalloc(1, sizeof *h);
		uint64_t t0 = now_ns(), c0 = cpu_ns();
		for (long i = 0; i < o.n; i++) {
			uint64_t t = now_ns();
			if (pwrite(fd, b, (size_t)o.size, (off_t)i * o.size) != o.size || fdatasync(fd))
				die("disk: %s", strerror(errno));
			h_add(h, now_ns() - t);
		}
		double el = (double)(now_ns() - t0) / 1e9;
		printf("RESULT mode=disk label=%s-%d n=%ld rate=%.0f mbps=%.1f p50_ms=%.3f p99_ms=%.3f cpu_us_per_op=%.1f\n",
		       pre ? "prealloc" : "append", o.size, o.n, (double)o.n / el, (double)o.n * o.size / el / 1e6,
		       h_q(h, .5), h_q(h, .99), (double)(cpu_ns() - c0) / 1e3 / (double)o.n);
		free(h);
		close(fd);
		unlink(p);
	}
	return 0;
}

/* ----------------------------------------------------------------------- ackd */
/* The least server that a QoS 1 publish can be sent to: accepts TLS, answers CONNECT,
 * SUBSCRIBE, PINGREQ and PUBLISH, and does nothing else: no authentication, no routing.
 * With --dir every loop's publishes are appended to a preallocated log and synced with
 * one fdatasync before any of their PUBACKs go out (group commit).  Its cost is the
 * floor under any server built on one thread, epoll and OpenSSL. */

#define ALOG (64 << 20)
typedef struct { int fd; SSL *s; uint8_t *in, *out; size_t il, ol, oc; } acon;

static void a_put(acon *c, const uint8_t *b, size_t n)
{
	if (c->ol + n > c->oc) {
		c->oc = c->oc ? c->oc * 2 : 64;
		while (c->oc < c->ol + n)
			c->oc *= 2;
		c->out = realloc(c->out, c->oc);
		if (!c->out)
			die("out of memory");
	}
	memcpy(c->out + c->ol, b, n);
	c->ol += n;
}

static void a_close(acon *c)
{
	SSL_free(c->s);
	close(c->fd);
	free(c->in);
	free(c->out);
	c->fd = -1;
	c->in = c->out = NULL;
	c->s = NULL;
}

static int run_ackd(void)
{
	struct sockaddr_in a = { .sin_family = AF_INET, .sin_port = htons((uint16_t)o.port) };
	a.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
	int one = 1, l = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0), ep = epoll_create1(EPOLL_CLOEXEC);
	setsockopt(l, SOL_SOCKET, SO_REUSEADDR, &one, sizeof one);
	if (!o.sink_cert || !o.sink_key || bind(l, (struct sockaddr *)&a, sizeof a) || listen(l, 4096))
		die("ackd: cannot listen, or no --sink-cert/--sink-key");
	SSL_CTX *S = SSL_CTX_new(TLS_server_method());
	SSL_CTX_set_num_tickets(S, 0);
	SSL_CTX_set_mode(S, SSL_MODE_RELEASE_BUFFERS | SSL_MODE_ENABLE_PARTIAL_WRITE | SSL_MODE_ACCEPT_MOVING_WRITE_BUFFER);
	SSL_CTX_set_read_ahead(S, 1);
	SSL_CTX_set_session_cache_mode(S, SSL_SESS_CACHE_OFF);
	if (SSL_CTX_use_certificate_chain_file(S, o.sink_cert) != 1 || SSL_CTX_use_PrivateKey_file(S, o.sink_key, SSL_FILETYPE_PEM) != 1)
		tls_die("ackd: certificate");
	struct rlimit rl;
	getrlimit(RLIMIT_NOFILE, &rl);
	rl.rlim_cur = rl.rlim_max;
	setrlimit(RLIMIT_NOFILE, &rl);
	int maxfd = (int)rl.rlim_max, log = -1;
	acon **cs = xcalloc((size_t)maxfd, sizeof *cs);
	uint8_t *batch = xmalloc(8 << 20), *buf = xmalloc(RBUF + 16);
	size_t bl = 0;
	off_t lo_ = 0;
	if (o.dir && strcmp(o.dir, ".")) {
		char p[1024];
		snprintf(p, sizeof p, "%s/ackd.log", o.dir);
		log = open(p, O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
		memset(batch, 0, 1 << 20);
		for (off_t i = 0; log >= 0 && i < ALOG; i += 1 << 20)
			if (pwrite(log, batch, 1 << 20, i) != 1 << 20)
				die("ackd: %s", strerror(errno));
		if (log < 0 || fsync(log))
			die("ackd: %s: %s", p, strerror(errno));
	}
	struct epoll_event e = { .events = EPOLLIN, .data.ptr = NULL }, ev[512];
	epoll_ctl(ep, EPOLL_CTL_ADD, l, &e);
	acon **ackq = xcalloc((size_t)maxfd, sizeof *ackq);
	while (!g_stop) {
		int n = epoll_wait(ep, ev, 512, 1000), nq = 0;
		for (int i = 0; i < n; i++) {
			acon *c = ev[i].data.ptr;
			if (!c) {
				int fd;
				while ((fd = accept4(l, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC)) >= 0) {
					c = cs[fd] ? cs[fd] : (cs[fd] = xcalloc(1, sizeof *c));
					memset(c, 0, sizeof *c);
					setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
					c->fd = fd;
					c->s = SSL_new(S);
					SSL_set_fd(c->s, fd);
					SSL_set_accept_state(c->s);
					e.events = EPOLLIN;
					e.data.ptr = c;
					epoll_ctl(ep, EPOLL_CTL_ADD, fd, &e);
				}
				continue;
			}
			if (!c->s)
				continue;
			if (c->il)
				memcpy(buf, c->in, c->il);
			size_t have = c->il, used = 0;
			int r, dead = 0;
			do {
				r = SSL_read(c->s, buf + have, (int)(RBUF - have));
				if (r > 0)
					have += (size_t)r;
				else {
					int er = SSL_get_error(c->s, r);
					dead = er != SSL_ERROR_WANT_READ && er != SSL_ERROR_WANT_WRITE;
					ERR_clear_error();
				}
			} while (r > 0 && SSL_has_pending(c->s) && have < RBUF);
			while (have - used >= 2) {
				size_t k = used + 1, len = 0;
				int sh = 0, ok = 0;
				while (k < have && sh < 28) {
					len |= (size_t)(buf[k] & 127) << sh;
					sh += 7;
					if (!(buf[k++] & 128)) {
						ok = 1;
						break;
					}
				}
				if (!ok || have - k < len)
					break;
				uint8_t *b = buf + k, t = buf[used] >> 4;
				if (t == 1)
					a_put(c, (const uint8_t *)"\x20\x02\0\0", 4);
				else if (t == 12)
					a_put(c, (const uint8_t *)"\xd0\0", 2);
				else if (t == 8 && len > 2) {
					uint8_t x[5] = { 0x90, 3, b[0], b[1], 1 };
					a_put(c, x, 5);
				} else if (t == 14)
					dead = 1;
				else if (t == 3 && len > 2) {
					size_t tl = (size_t)(b[0] << 8 | b[1]);
					if (log >= 0 && bl + len + 8 < 8 << 20) {
						uint32_t h[2] = { (uint32_t)len, (uint32_t)c->fd };
						memcpy(batch + bl, h, 8);
						memcpy(batch + bl + 8, b, len);
						bl += len + 8;
					}
					if (buf[used] & 6 && tl + 4 <= len) {
						uint8_t x[4] = { 0x40, 2, b[2 + tl], b[3 + tl] };
						a_put(c, x, 4);
					}
				}
				used = k + len;
			}
			if (dead) {
				a_close(c);
				continue;
			}
			free(c->in);
			c->in = NULL;
			c->il = have - used;
			if (c->il) {
				c->in = xmalloc(c->il);
				memcpy(c->in, buf + used, c->il);
			}
			if (c->ol)
				ackq[nq++] = c;
		}
		if (bl) {
			size_t w = (bl + 4095) & ~(size_t)4095;
			if (lo_ + (off_t)w > ALOG)
				lo_ = 0;
			memset(batch + bl, 0, w - bl);
			if (pwrite(log, batch, w, lo_) != (ssize_t)w || fdatasync(log))
				die("ackd: %s", strerror(errno));
			lo_ += (off_t)w;
			bl = 0;
		}
		for (int i = 0; i < nq; i++) {
			acon *c = ackq[i];
			if (!c->s || !c->ol)
				continue;
			int r = SSL_write(c->s, c->out, (int)c->ol);
			if (r == (int)c->ol) {
				c->ol = 0;
				if (c->oc > 4096) {
					free(c->out);
					c->out = NULL;
					c->oc = 0;
				}
			} else if (r > 0) {
				memmove(c->out, c->out + r, c->ol - (size_t)r);
				c->ol -= (size_t)r;
			} else {
				ERR_clear_error();
				a_close(c);     /* a benchmark client always reads */
			}
		}
	}
	return 0;
}

/* ---------------------------------------------------------------------- main */

static void on_sig(int s) { g_stop = 1; }

static void usage(void)
{
	puts(
"usage: mqttload MODE [options]     MODE: mkcerts floor disk ackd tls http connect hold pub dps relay\n"
"target      --host A --port P --sni NAME --plain --srcs N (loopback source addresses)\n"
"tls         --tls12 --tls13 --ca F --cert F --key F --pairs F --groups L --ciphers L --resume\n"
"            --pairs: one PEM file of certificate+key pairs, pair i for device i\n"
"amount      -n N operations  --devices D  --first I  -c C set up at once\n"
"            -m M persistent connections  -d T seconds  --rate R per second  -t THREADS\n"
"            --timeout S  --settle S\n"
"identity    --id TPL (dev%05d)  --client-id TPL (%s)  --user TPL  --pass TPL  --hub HOST\n"
"            --sas-key B64 | --sas-group-key B64 | --keyfile F (lines id,key)  --sas-ttl S\n"
"            templates: %s device id, %d %05d index, %h hub, %S scope, %T SAS token, %% percent sign\n"
"            --stride S: the k-th operation is of device first + k*S % devices\n"
"mqtt        --subscribe FILTER (may be repeated: hold, pub) --keepalive S --persistent-session --ws PATH (MQTT over WebSocket)\n"
"pub         --topic TPL -q QOS -s BYTES -w WINDOW --no-coalesce (one TLS record per PUBLISH)\n"
"            --subs K --sub-topic TPL --sub-qos Q (K subscribers in this process)\n"
"dps         --scope S --no-wait (poll at once, ignoring retry-after)\n"
"            --trace FILE (of each device: number, begin and end in ms, answers 202 and 429, longest wait told in s)\n"
"http, tls   --path P --method M --header H -s BYTES | --body TPL (body of POST/PUT)\n"
"            http -n N: N requests and end, the k-th one for device k (--path, --header, --body are templates)\n"
"relay       --sink-port P [--sink-cert F --sink-key F] | --ws A --ws-b B [--header H --header-b H];  --mb N --frame BYTES\n"
"mkcerts     --dir D -n N --id TPL --hub HOST     floor  --dir D (from mkcerts) -n N\n"
"disk        --dir D -n N -s BYTES (write + fdatasync: appended, and into a preallocated file)\n"
"ackd        --port P --sink-cert F --sink-key F [--dir D: log and fdatasync before acks]\n"
"report      --pid P[,P...] (server processes; descendants are added)  --label L  --quiet");
}

enum { OPT_HOST = 256, OPT_PORT, OPT_SNI, OPT_PLAIN, OPT_SRCS, OPT_TLS12, OPT_TLS13, OPT_CA, OPT_CERT, OPT_KEY, OPT_PAIRS, OPT_GROUPS,
       OPT_CIPHERS, OPT_RESUME, OPT_DEVICES, OPT_FIRST, OPT_RATE, OPT_TIMEOUT, OPT_SETTLE, OPT_ID, OPT_CID, OPT_USER, OPT_PASS, OPT_HUB,
       OPT_SASKEY, OPT_SASGROUP, OPT_KEYFILE, OPT_SASTTL, OPT_KEEPALIVE, OPT_PSESS, OPT_WS, OPT_TOPIC, OPT_NOCO, OPT_SUBS, OPT_SUBTOPIC,
       OPT_SUBQOS, OPT_SCOPE, OPT_NOWAIT, OPT_TRACE, OPT_PATH, OPT_METHOD, OPT_HEADER, OPT_SINKPORT, OPT_SINKCERT, OPT_SINKKEY, OPT_WSB, OPT_HEADERB, OPT_MB,
       OPT_FRAME, OPT_BODY, OPT_FILTER, OPT_STRIDE, OPT_DIR, OPT_PID, OPT_LABEL, OPT_QUIET, OPT_HELP };

static const struct option lo[] = {
	{"host", 1, 0, OPT_HOST}, {"port", 1, 0, OPT_PORT}, {"sni", 1, 0, OPT_SNI}, {"plain", 0, 0, OPT_PLAIN},
	{"srcs", 1, 0, OPT_SRCS}, {"tls12", 0, 0, OPT_TLS12}, {"tls13", 0, 0, OPT_TLS13}, {"ca", 1, 0, OPT_CA},
	{"cert", 1, 0, OPT_CERT}, {"key", 1, 0, OPT_KEY}, {"pairs", 1, 0, OPT_PAIRS}, {"groups", 1, 0, OPT_GROUPS},
	{"ciphers", 1, 0, OPT_CIPHERS}, {"resume", 0, 0, OPT_RESUME}, {"devices", 1, 0, OPT_DEVICES},
	{"first", 1, 0, OPT_FIRST}, {"rate", 1, 0, OPT_RATE}, {"timeout", 1, 0, OPT_TIMEOUT},
	{"settle", 1, 0, OPT_SETTLE}, {"id", 1, 0, OPT_ID}, {"client-id", 1, 0, OPT_CID}, {"user", 1, 0, OPT_USER},
	{"pass", 1, 0, OPT_PASS}, {"hub", 1, 0, OPT_HUB}, {"sas-key", 1, 0, OPT_SASKEY},
	{"sas-group-key", 1, 0, OPT_SASGROUP}, {"keyfile", 1, 0, OPT_KEYFILE}, {"sas-ttl", 1, 0, OPT_SASTTL},
	{"keepalive", 1, 0, OPT_KEEPALIVE}, {"persistent-session", 0, 0, OPT_PSESS}, {"ws", 1, 0, OPT_WS},
	{"topic", 1, 0, OPT_TOPIC}, {"no-coalesce", 0, 0, OPT_NOCO}, {"subs", 1, 0, OPT_SUBS},
	{"sub-topic", 1, 0, OPT_SUBTOPIC}, {"sub-qos", 1, 0, OPT_SUBQOS}, {"scope", 1, 0, OPT_SCOPE},
	{"no-wait", 0, 0, OPT_NOWAIT}, {"trace", 1, 0, OPT_TRACE}, {"path", 1, 0, OPT_PATH}, {"method", 1, 0, OPT_METHOD},
	{"header", 1, 0, OPT_HEADER}, {"body", 1, 0, OPT_BODY},
	{"subscribe", 1, 0, OPT_FILTER}, {"stride", 1, 0, OPT_STRIDE}, {"sink-port", 1, 0, OPT_SINKPORT}, {"sink-cert", 1, 0, OPT_SINKCERT},
	{"sink-key", 1, 0, OPT_SINKKEY}, {"ws-b", 1, 0, OPT_WSB}, {"header-b", 1, 0, OPT_HEADERB}, {"mb", 1, 0, OPT_MB}, {"frame", 1, 0, OPT_FRAME},
	{"dir", 1, 0, OPT_DIR}, {"pid", 1, 0, OPT_PID}, {"label", 1, 0, OPT_LABEL}, {"quiet", 0, 0, OPT_QUIET},
	{"help", 0, 0, OPT_HELP}, {0, 0, 0, 0}
};

static double num(const char *s)
{
	char *e;
	double v = strtod(s, &e);
	if (e == s || (*e && strcmp(e, "k")) || v < 0)
		die("bad number %s", s);
	return *e ? v * 1000 : v;
}

static void parse(int ac, char **av)
{
	static const char *names[] = { "", "mkcerts", "tls", "http", "connect", "hold", "pub", "dps", "relay", "floor", "disk", "ackd" };
	if (ac > 1 && (!strcmp(av[1], "--help") || !strcmp(av[1], "-h"))) {
		usage();
		exit(0);
	}
	for (int i = 1; ac > 1 && i <= M_ACKD; i++)
		if (!strcmp(av[1], names[i])) {
			o.mode = (enum mode)i;
			o.mode_name = names[i];
		}
	if (!o.mode) {
		usage();
		exit(2);
	}
	int k, have_n = 0, have_d = 0;
	optind = 2;
	while ((k = getopt_long(ac, av, "n:c:m:d:t:q:s:w:h", lo, NULL)) != -1)
		switch (k) {
		case 'n': o.n = (long)num(optarg); have_n = 1; break;
		case 'c': o.conc = (int)num(optarg); break;
		case 'm': o.clients = (int)num(optarg); break;
		case 'd': o.dur = num(optarg); have_d = 1; break;
		case 't': o.threads = (int)num(optarg); break;
		case 'q': o.qos = (int)num(optarg); break;
		case 's': o.size = (int)num(optarg); break;
		case 'w': o.window = (int)num(optarg); break;
		case OPT_HOST: o.host = optarg; break;
		case OPT_PORT: o.port = (int)num(optarg); break;
		case OPT_SNI: o.sni = optarg; break;
		case OPT_PLAIN: o.plain = 1; break;
		case OPT_SRCS: o.srcs = (int)num(optarg); break;
		case OPT_TLS12: o.tls12 = 1; break;
		case OPT_TLS13: o.tls13 = 1; break;
		case OPT_CA: o.ca = optarg; break;
		case OPT_CERT: o.cert = optarg; break;
		case OPT_KEY: o.key_pem = optarg; break;
		case OPT_PAIRS: o.pairs = optarg; break;
		case OPT_GROUPS: o.groups = optarg; break;
		case OPT_CIPHERS: o.ciphers = optarg; break;
		case OPT_RESUME: o.resume = 1; break;
		case OPT_DEVICES: o.devices = (long)num(optarg); break;
		case OPT_FIRST: o.first = (long)num(optarg); break;
		case OPT_RATE: o.rate = num(optarg); break;
		case OPT_TIMEOUT: o.timeout = num(optarg); break;
		case OPT_SETTLE: o.settle = num(optarg); break;
		case OPT_ID: o.id = optarg; break;
		case OPT_CID: o.client_id = optarg; break;
		case OPT_USER: o.user = optarg; break;
		case OPT_PASS: o.pass = optarg; break;
		case OPT_HUB: o.hub = optarg; break;
		case OPT_SASKEY: o.sas_key = optarg; break;
		case OPT_SASGROUP: o.sas_group_key = optarg; break;
		case OPT_KEYFILE: o.keyfile = optarg; break;
		case OPT_SASTTL: o.sas_ttl = (long)num(optarg); break;
		case OPT_KEEPALIVE: o.keepalive = (int)num(optarg); break;
		case OPT_PSESS: o.clean = 0; break;
		case OPT_WS: o.ws = optarg; break;
		case OPT_TOPIC: o.topic = optarg; break;
		case OPT_NOCO: o.nocoalesce = 1; break;
		case OPT_SUBS: o.subs = (int)num(optarg); break;
		case OPT_SUBTOPIC: o.sub_topic = optarg; break;
		case OPT_SUBQOS: o.sub_qos = (int)num(optarg); break;
		case OPT_SCOPE: o.scope = optarg; break;
		case OPT_NOWAIT: o.no_wait = 1; break;
		case OPT_TRACE:
			if (!(o.trace = fopen(optarg, "w"))) {
				fprintf(stderr, "mqttload: cannot write '%s'\n", optarg);
				exit(2);
			}
			break;
		case OPT_PATH: o.path = optarg; break;
		case OPT_METHOD: o.method = optarg; break;
		case OPT_HEADER: o.header = optarg; break;
		case OPT_BODY: o.body = optarg; break;
		case OPT_STRIDE: o.stride = (long)num(optarg); break;
		case OPT_FILTER:
			if (o.nfilters == (int)(sizeof o.filters / sizeof *o.filters))
				die("too many --subscribe");
			o.filters[o.nfilters++] = optarg;
			break;
		case OPT_SINKPORT: o.sink_port = (int)num(optarg); break;
		case OPT_SINKCERT: o.sink_cert = optarg; break;
		case OPT_SINKKEY: o.sink_key = optarg; break;
		case OPT_WSB: o.relay_b = optarg; break;
		case OPT_HEADERB: o.header_b = optarg; break;
		case OPT_MB: o.mb = num(optarg); break;
		case OPT_FRAME: o.frame = (int)num(optarg); break;
		case OPT_DIR: o.dir = optarg; break;
		case OPT_PID: o.pids = optarg; break;
		case OPT_LABEL: o.label = optarg; break;
		case OPT_QUIET: o.quiet = 1; break;
		case OPT_HELP: case 'h': usage(); exit(0);
		default: exit(2);
		}
	if (optind < ac)
		die("unexpected argument %s", av[optind]);
	if (!have_n && !have_d && !persistent())
		o.n = 1000;
	if (have_d && !have_n)
		o.n = 0;
	if (o.n == 0 && !persistent() && o.mode != M_RELAY && o.devices == 0)
		o.devices = 10000;
	if (have_n && !have_d && !persistent())
		o.dur = 0;
	if (o.threads < 1 || o.threads > 64 || o.conc < 1 || o.window < 1 || o.window > 65535 || o.qos > 1 ||
	    o.port < 1 || o.port > 65535 || o.srcs > 250 || o.keepalive > 65535 || o.frame < 1)
		die("an option is out of range");
	if (o.mode != M_PUB)
		o.subs = 0;
	if (o.mode == M_HTTP && !o.path)
		o.path = "/";
	if (o.mode == M_HTTP && o.n) {
		if (o.threads > 1 || o.rate > 0)
			die("http -n goes with one thread and no --rate");
		o.dur = 1e9;
		if (!o.devices)
			o.devices = o.n;
	}
	if (o.ws && http_mode())
		die("--ws goes with MQTT modes");
}

int main(int ac, char **av)
{
	parse(ac, av);
	signal(SIGPIPE, SIG_IGN);
	signal(SIGINT, on_sig);
	signal(SIGTERM, on_sig);
	if (o.mode == M_MKCERTS)
		return run_mkcerts();
	if (o.mode == M_FLOOR)
		return run_floor();
	if (o.mode == M_DISK)
		return run_disk();
	if (o.mode == M_ACKD)
		return run_ackd();
	if (o.keyfile)
		load_keyfile();

	struct rlimit rl;
	getrlimit(RLIMIT_NOFILE, &rl);
	rl.rlim_cur = rl.rlim_max;
	setrlimit(RLIMIT_NOFILE, &rl);
	long need = persistent() ? o.clients + o.subs : o.conc;
	if ((long)rl.rlim_max < need + 32)
		die("open-file limit %ld is too low for %ld connections", (long)rl.rlim_max, need);

	struct addrinfo *ai, hint = { .ai_family = AF_INET, .ai_socktype = SOCK_STREAM };
	if (getaddrinfo(o.host, NULL, &hint, &ai))
		die("cannot resolve %s", o.host);
	dst = *(struct sockaddr_in *)ai->ai_addr;
	dst.sin_port = htons((uint16_t)o.port);
	freeaddrinfo(ai);
	dst_loop = ntohl(dst.sin_addr.s_addr) >> 24 == 127;
	filler = xmalloc((size_t)o.size + 1);
	memset(filler, 'x', (size_t)o.size);
	tls_setup();
	sess = xcalloc((size_t)(ndev() + o.first + 1), sizeof *sess);
	if (o.mode == M_RELAY)
		return run_relay();

	W *ws = xcalloc((size_t)o.threads, sizeof *ws);
	int T = o.threads;
	for (int i = 0; i < T; i++) {
		W *w = &ws[i];
		w->idx = i;
		w->ep = epoll_create1(EPOLL_CLOEXEC);
		if (persistent()) {
			int m = o.clients / T + (i < o.clients % T);
			w->nsubs = o.subs / T + (i < o.subs % T);
			w->nslots = m + w->nsubs;
		} else {
			w->nslots = o.conc / T + (i < o.conc % T);
			if (w->nslots < 1)
				w->nslots = 1;
			w->ops_left = o.n ? o.n / T + (i < o.n % T) : 1L << 60;
		}
		w->c = xcalloc((size_t)w->nslots, sizeof *w->c);
		w->idle = xcalloc((size_t)w->nslots, sizeof *w->idle);
		for (int j = 0; j < w->nslots; j++) {
			w->c[j].fd = -1;
			w->c[j].w = w;
			w->idle[w->nidle++] = w->nslots - 1 - j;
		}
		w->tls = xcalloc(1, sizeof(hist));
		w->ack = xcalloc(1, sizeof(hist));
		w->op = xcalloc(1, sizeof(hist));
		w->e2e = xcalloc(1, sizeof(hist));
		w->rbuf = xmalloc(RBUF + 16);
		w->wbuf = xmalloc(RBUF + 16);
	}

	snap s0 = take_snap(1), s1 = s0, s2, s3;
	double c0 = self_cpu(), c1;
	uint64_t t0 = now_ns(), tr = t0, te;
	double ramp = 0;
	for (int i = 0; i < T; i++)
		if (pthread_create(&ws[i].th, NULL, worker_main, &ws[i]))
			die("pthread_create");
	if (persistent()) {
		while (atomic_load(&g_ready) < T && !g_stop)
			usleep(2000);
		ramp = (double)(now_ns() - t0) / 1e9;
		usleep((useconds_t)(o.settle * 1e6));
		s1 = take_snap(1);
		c1 = self_cpu();
		tr = now_ns();
		atomic_store(&g_t_run, tr);
		atomic_store(&g_phase, P_RUN);
		while (!g_stop && (double)(now_ns() - tr) / 1e9 < o.dur)
			usleep(5000);
		s2 = take_snap(o.mode == M_HOLD);
		atomic_store(&g_phase, P_DRAIN);
		while (atomic_load(&g_drained) < T)
			usleep(500);
		te = 0;
		for (int i = 0; i < T; i++)
			if (ws[i].t_end > te)
				te = ws[i].t_end;
		if (o.subs)
			usleep(500000);
		s3 = take_snap(0);
		double c2 = self_cpu();
		atomic_store(&g_phase, P_DONE);
		for (int i = 0; i < T; i++)
			pthread_join(ws[i].th, NULL);
		c0 = c2 - c1;
	} else {
		for (int i = 0; i < T; i++)
			pthread_join(ws[i].th, NULL);
		te = tr;
		for (int i = 0; i < T; i++)
			if (ws[i].t_end > te)
				te = ws[i].t_end;
		c0 = self_cpu() - c0;
		usleep(200000);         /* let the server finish its side of the last closes */
		s3 = s2 = take_snap(0);
	}

	W a = ws[0];
	for (int i = 1; i < T; i++) {
		W *w = &ws[i];
		h_merge(a.tls, w->tls);
		h_merge(a.ack, w->ack);
		h_merge(a.op, w->op);
		h_merge(a.e2e, w->e2e);
		a.done += w->done; a.connected += w->connected; a.failed_ramp += w->failed_ramp;
		a.sent += w->sent; a.acked += w->acked; a.delivered += w->delivered;
		a.pings += w->pings; a.pongs += w->pongs; a.dropped += w->dropped;
		a.nfail += w->nfail; a.resumed += w->resumed; a.outstanding += w->outstanding;
		for (int j = 0; j < w->nf; j++) {
			int k;
			for (k = 0; k < a.nf && strcmp(a.f[k].why, w->f[j].why); k++)
				;
			if (k < a.nf)
				a.f[k].n += w->f[j].n;
			else if (a.nf < MAXFAIL)
				a.f[a.nf++] = w->f[j];
		}
	}

	double el = (double)(te - tr) / 1e9;
	const char *lab = o.label ? o.label : "-";
	if (el <= 0)
		el = 1e-9;
	if (!persistent()) {
		const char *what = o.mode == M_TLS ? "handshakes" : o.mode == M_DPS ? "registrations" : "connects";
		double rate = (double)a.acked / el, us = a.acked ? (s3.cpu - s0.cpu) * 1e6 / (double)a.acked : 0;
		if (!o.quiet) {
			printf("%s: %llu ok, %llu failed in %.2f s: %.0f %s/s\n", o.mode_name, (unsigned long long)a.acked,
			       (unsigned long long)a.nfail, el, rate, what);
			printf("latency ms: total p50 %.2f p99 %.2f max %.2f; TLS p50 %.2f p99 %.2f; resumed %llu\n",
			       h_q(a.op, .5), h_q(a.op, .99), (double)a.op->max / 1e6, h_q(a.tls, .5), h_q(a.tls, .99),
			       (unsigned long long)a.resumed);
			printf("generator CPU %.2f s (%.0f us each)", c0, a.acked ? c0 * 1e6 / (double)a.acked : 0);
			if (s0.ok)
				printf("; server CPU %.2f s (%.1f us each, %.0f %s per CPU second)", s3.cpu - s0.cpu, us,
				       us > 0 ? 1e6 / us : 0, what);
			putchar('\n');
		}
		for (int i = 0; i < a.nf; i++)
			printf("failure: %s: %llu\n", a.f[i].why, (unsigned long long)a.f[i].n);
		printf("RESULT mode=%s label=%s ok=%llu fail=%llu rate=%.1f p50_ms=%.3f p99_ms=%.3f tls_p50_ms=%.3f "
		       "tls_p99_ms=%.3f resumed=%llu polls=%llu gen_cpu_s=%.3f srv_cpu_s=%.3f srv_us_per_op=%.2f\n",
		       o.mode_name, lab, (unsigned long long)a.acked, (unsigned long long)a.nfail, rate, h_q(a.op, .5),
		       h_q(a.op, .99), h_q(a.tls, .5), h_q(a.tls, .99), (unsigned long long)a.resumed,
		       (unsigned long long)a.pings, c0, s3.cpu - s0.cpu, us);
		return a.nfail ? 1 : 0;
	}

	long n = a.connected;
	if (!o.quiet)
		printf("%s: %ld connected, %ld failed in %.2f s (%.0f/s); connect p50 %.2f p99 %.2f ms; dropped later %llu\n",
		       o.mode_name, n, a.failed_ramp, ramp, (double)n / ramp, h_q(a.op, .5), h_q(a.op, .99),
		       (unsigned long long)a.dropped);
	double kib = n ? (double)(s1.rss - s0.rss) / (double)n : 0, pkib = n ? (double)(s1.priv - s0.priv) / (double)n : 0;
	if (o.mode == M_HOLD) {
		double k2 = n ? (double)(s2.rss - s0.rss) / (double)n : 0;
		double cpu = s2.cpu - s1.cpu;
		if (!o.quiet) {
			printf("server RSS: %ld -> %ld -> %ld KiB (before, connected, after %.0f s): %.2f then %.2f KiB per "
			       "connection (private %.2f)\n", s0.rss, s1.rss, s2.rss, o.dur, kib, k2, pkib);
			printf("kernel, both ends: socket memory %.2f KiB, slab %.2f KiB per connection; whole machine %.2f KiB\n",
			       (double)(s1.sockmem - s0.sockmem) / (double)(n ? n : 1),
			       (double)(s1.slab - s0.slab) / (double)(n ? n : 1),
			       (double)(s0.memavail - s1.memavail) / (double)(n ? n : 1));
			printf("pings %llu, answered %llu, p50 %.2f p99 %.2f ms; server CPU while idle %.3f s = %.2f us per "
			       "ping; to connect %.1f us per connection\n", (unsigned long long)a.pings,
			       (unsigned long long)a.pongs, h_q(a.ack, .5), h_q(a.ack, .99), cpu,
			       a.pings ? cpu * 1e6 / (double)a.pings : 0, n ? (s1.cpu - s0.cpu) * 1e6 / (double)n : 0);
		}
		for (int i = 0; i < a.nf; i++)
			printf("failure: %s: %llu\n", a.f[i].why, (unsigned long long)a.f[i].n);
		printf("RESULT mode=hold label=%s connected=%ld fail=%llu dropped=%llu connect_rate=%.1f rss_kib=%ld "
		       "kib_per_conn=%.3f kib_per_conn_end=%.3f private_kib_per_conn=%.3f pings=%llu pongs=%llu "
		       "ping_p99_ms=%.3f idle_srv_cpu_s=%.3f srv_us_per_connect=%.2f slab_kib_per_conn=%.3f\n", lab, n,
		       (unsigned long long)a.nfail, (unsigned long long)a.dropped, (double)n / ramp, s1.rss, kib, k2,
		       pkib, (unsigned long long)a.pings, (unsigned long long)a.pongs, h_q(a.ack, .99), cpu,
		       n ? (s1.cpu - s0.cpu) * 1e6 / (double)n : 0,
		       (double)(s1.slab - s0.slab) / (double)(n ? n : 1));
		return a.nfail ? 1 : 0;
	}

	uint64_t ops = o.mode == M_PUB && !o.qos ? a.sent : a.acked;
	double us = ops ? (s3.cpu - s1.cpu) * 1e6 / (double)ops : 0;
	if (!o.quiet) {
		printf("%s: %llu sent, %llu %s in %.2f s: %.0f/s, %.2f MB/s payload; unanswered %llu\n", o.mode_name,
		       (unsigned long long)a.sent, (unsigned long long)a.acked, o.mode == M_HTTP ? "answered" : "acked", el,
		       (double)ops / el, o.mode == M_PUB ? (double)ops * o.size / el / 1e6 : 0,
		       (unsigned long long)a.outstanding);
		printf("latency ms: p50 %.3f p99 %.3f p99.9 %.3f max %.3f\n", h_q(a.ack, .5), h_q(a.ack, .99),
		       h_q(a.ack, .999), (double)a.ack->max / 1e6);
		if (o.subs)
			printf("delivered %llu (%.0f/s), end to end p50 %.3f p99 %.3f ms\n", (unsigned long long)a.delivered,
			       (double)a.delivered / el, h_q(a.e2e, .5), h_q(a.e2e, .99));
		printf("generator CPU %.2f s (%.1f us each)", c0, ops ? c0 * 1e6 / (double)ops : 0);
		if (s0.ok)
			printf("; server CPU %.2f s (%.2f us each, %.0f per CPU second)", s3.cpu - s1.cpu, us, us > 0 ? 1e6 / us : 0);
		putchar('\n');
	}
	for (int i = 0; i < a.nf; i++)
		printf("failure: %s: %llu\n", a.f[i].why, (unsigned long long)a.f[i].n);
	printf("RESULT mode=%s label=%s connected=%ld sent=%llu acked=%llu fail=%llu dropped=%llu unanswered=%llu rate=%.1f "
	       "p50_ms=%.3f p99_ms=%.3f p999_ms=%.3f delivered=%llu e2e_p50_ms=%.3f e2e_p99_ms=%.3f gen_cpu_s=%.3f "
	       "srv_cpu_s=%.3f srv_us_per_op=%.3f rss_kib=%ld kib_per_conn=%.3f private_kib_per_conn=%.3f\n", o.mode_name, lab,
	       n, (unsigned long long)a.sent,
	       (unsigned long long)a.acked, (unsigned long long)a.nfail, (unsigned long long)a.dropped,
	       (unsigned long long)a.outstanding, (double)ops / el, h_q(a.ack, .5), h_q(a.ack, .99), h_q(a.ack, .999),
	       (unsigned long long)a.delivered, h_q(a.e2e, .5), h_q(a.e2e, .99), c0, s3.cpu - s1.cpu, us,
	       s1.rss, kib, pkib);
	return a.nfail || a.outstanding ? 1 : 0;
}
