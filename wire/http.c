/* SPDX-License-Identifier: Apache-2.0 */
#include "wire/http.h"

#include "base/limits.h"
#include "base/text.h"
#include "wire/decode.h"

static enum err bad(struct err_info *info, const char *why)
{
    return err_set(info, E_MALFORMED, "HTTP head: %s", why);
}

/* RFC 9110 5.6.2 */
static bool is_token(struct span s)
{
    static const char marks[] = "!#$%&'*+-.^_`|~";
    for (size_t i = 0; i < s.n; i++) {
        uint8_t c = s.p[i];
        uint8_t l = c | 0x20;
        bool alnum = (c >= '0' && c <= '9') || (l >= 'a' && l <= 'z');
        if (!alnum && (c == 0 || strchr(marks, c) == NULL)) {
            return false;
        }
    }
    return s.n > 0;
}

/* --- where the head ends ------------------------------------------------------------------ */
enum err http_head_find(struct span in, size_t *scanned, size_t *ret_n)
{
    size_t i = *scanned;
    size_t end = MIN(in.n, LIMIT_HTTP_HEAD);
    for (; i < end; i++) {
        /* an empty line that is not the one before the request line. A bare LF ends a line here
         * too, so that such a head is found and refused at once. */
        if (in.p[i] != '\n' || i < 2) {
            continue;
        }
        if (in.p[i - 1] == '\n' || (i >= 3 && in.p[i - 1] == '\r' && in.p[i - 2] == '\n')) {
            *scanned = 0;
            *ret_n = i + 1;
            return OK;
        }
    }
    *scanned = i;
    return in.n >= LIMIT_HTTP_HEAD ? E_TOO_LARGE : E_AGAIN;
}

/* --- lines -------------------------------------------------------------------------------- */
/* One line without its CRLF; false: no proper line end, or a control character inside. */
static bool next_line(struct span *rest, struct span *ret)
{
    size_t lf = span_find(*rest, '\n');
    if (lf == rest->n || lf == 0 || rest->p[lf - 1] != '\r') {
        return false;
    }
    struct span line = span_sub(*rest, 0, lf - 1);
    for (size_t i = 0; i < line.n; i++) {
        if ((line.p[i] < 0x20 && line.p[i] != '\t') || line.p[i] == 0x7f) {
            return false;
        }
    }
    *rest = span_from(*rest, lf + 1);
    *ret = line;
    return true;
}

static enum err request_line_read(struct span line, struct http_head *h, struct err_info *info)
{
    h->method = span_cut(&line, ' ');
    h->target = span_cut(&line, ' ');
    if (!is_token(h->method) || h->method.n > 32) {
        return bad(info, "method");
    }
    if (h->target.n == 0 || h->target.p[0] != '/') {
        return bad(info, "target does not begin with /");
    }
    for (size_t i = 0; i < h->target.n; i++) {
        if (h->target.p[i] <= 0x20 || h->target.p[i] >= 0x7f || h->target.p[i] == '#') {
            return bad(info, "target has a character that no URL has");
        }
    }
    h->is_http10 = span_is(line, "HTTP/1.0");
    if (!h->is_http10 && !span_is(line, "HTTP/1.1")) {
        if (line.n == 8 && span_starts(line, SPAN_LIT("HTTP/"))) {
            return err_set(info, E_VERSION, "HTTP head: version is neither 1.0 nor 1.1");
        }
        return bad(info, "request line");
    }
    h->query = h->target;
    h->path = span_cut(&h->query, '?');
    return OK;
}

bool http_head_next(struct span *rest, struct span *ret_name, struct span *ret_value)
{
    struct span line;
    if (!next_line(rest, &line) || line.n == 0) {
        return false;
    }
    *ret_name = span_cut(&line, ':');
    *ret_value = span_trim(line);
    return true;
}

struct span http_head_get(const struct http_head *h, const char *name)
{
    struct span rest = h->lines;
    struct span n;
    struct span v;
    while (http_head_next(&rest, &n, &v)) {
        if (span_is_nocase(n, name)) {
            return v.p != NULL ? v : SPAN_LIT("");
        }
    }
    return SPAN_NONE;
}

/* --- headers that decide where the message ends, or that every message must have once ----- */
static bool list_has(struct span list, const char *word)
{
    while (list.p != NULL) {
        if (span_is_nocase(span_trim(span_cut(&list, ',')), word)) {
            return true;
        }
    }
    return false;
}

bool http_host_ok(struct span host)
{
    struct span name = http_host_name(host);
    struct span port = span_from(host, name.n);
    uint64_t number = 0;
    if (name.n == 0 || name.n > LIMIT_HOST ||
        (port.n > 0 &&
         (port.p[0] != ':' || !span_to_u64(span_from(port, 1), &number) || number > 65535))) {
        return false;
    }
    bool literal = name.p[0] == '[';
    if (literal && (name.n < 4 || name.p[name.n - 1] != ']')) {
        return false;
    }
    for (size_t i = 0; i < name.n; i++) {
        uint8_t c = name.p[i];
        uint8_t l = c | 0x20;
        bool alnum = (c >= '0' && c <= '9') || (l >= 'a' && l <= 'z');
        bool bracket = literal && (i == 0 || i == name.n - 1 || c == ':');
        if (!alnum && c != '.' && c != '-' && c != '_' && c != '~' && !bracket) {
            return false;
        }
    }
    return true;
}

struct span http_host_name(struct span host)
{
    if (host.n > 0 && host.p[0] == '[') {
        return span_sub(host, 0, span_find(host, ']') + 1);
    }
    return span_sub(host, 0, span_find(host, ':'));
}

static const char *on_host(struct http_head *h, struct span v)
{
    if (h->host.p != NULL) {
        return "Host twice";
    }
    if (!http_host_ok(v)) {
        return "Host is no name with port";
    }
    h->host = v;
    return NULL;
}

static const char *on_length(struct http_head *h, struct span v)
{
    if (h->has_length) {
        return "Content-Length twice";
    }
    if (!span_to_u64(v, &h->length) || h->length > INT64_MAX) {
        return "Content-Length is no number";
    }
    h->has_length = true;
    return NULL;
}

static const char *on_transfer_encoding(struct http_head *h, struct span v)
{
    if (h->is_chunked) {
        return "Transfer-Encoding twice";
    }
    if (!span_is_nocase(v, "chunked")) {
        return "Transfer-Encoding other than chunked";
    }
    h->is_chunked = true;
    return NULL;
}

static const char *on_connection(struct http_head *h, struct span v)
{
    h->wants_close = h->wants_close || list_has(v, "close");
    h->wants_upgrade = h->wants_upgrade || list_has(v, "upgrade");
    return NULL;
}

static const char *on_upgrade(struct http_head *h, struct span v)
{
    if (h->upgrade.p != NULL) {
        return "Upgrade twice";
    }
    h->upgrade = v;
    return NULL;
}

static const char *on_expect(struct http_head *h, struct span v)
{
    h->expects_continue = span_is_nocase(v, "100-continue");
    return h->expects_continue ? NULL : "Expect other than 100-continue";
}

static const char *on_content_encoding(struct http_head *h, struct span v)
{
    h->has_content_encoding = h->has_content_encoding || !span_is_nocase(v, "identity");
    return NULL;
}

/* clang-format off */
static const struct {
    const char *name;
    const char *(*on)(struct http_head *h, struct span value);
} known[] = {
    { "Host",              on_host },
    { "Content-Length",    on_length },
    { "Transfer-Encoding", on_transfer_encoding },
    { "Connection",        on_connection },
    { "Upgrade",           on_upgrade },
    { "Expect",            on_expect },
    { "Content-Encoding",  on_content_encoding },
};
/* clang-format on */

static enum err header_read(struct span line, struct http_head *h, struct err_info *info)
{
    if (line.p[0] == ' ' || line.p[0] == '\t') {
        return bad(info, "folded line (RFC 9112 5.2)");
    }
    size_t colon = span_find(line, ':');
    struct span name = span_sub(line, 0, colon);
    if (colon == line.n || !is_token(name)) {
        return bad(info, "header name, or a space before its colon (RFC 9112 5.1)");
    }
    struct span value = span_trim(span_from(line, colon + 1));
    for (size_t i = 0; i < ARRAY_LEN(known); i++) {
        if (span_is_nocase(name, known[i].name)) {
            const char *fault = known[i].on(h, value);
            return fault != NULL ? bad(info, fault) : OK;
        }
    }
    return OK;
}

static enum err headers_read(struct span rest, struct http_head *h, struct err_info *info)
{
    struct span line;
    for (;;) {
        if (!next_line(&rest, &line)) {
            return bad(info, "bare CR or LF, or a control character");
        }
        if (line.n == 0) {
            return rest.n == 0 ? OK : bad(info, "bytes behind the empty line");
        }
        if (++h->n_headers > LIMIT_HTTP_HEADERS) {
            return err_set(info, E_LIMIT, "HTTP head: more than %u headers", LIMIT_HTTP_HEADERS);
        }
        enum err e = header_read(line, h, info);
        if (e != OK) {
            return e;
        }
    }
}

enum err http_head_read(struct span head, struct http_head *ret, struct err_info *info)
{
    struct http_head h = {.length = 0};
    if (head.n > LIMIT_HTTP_HEAD) {
        return err_set(info, E_TOO_LARGE, "HTTP head: more than %u bytes", LIMIT_HTTP_HEAD);
    }
    if (span_starts(head, SPAN_LIT("\r\n"))) {
        head = span_from(head, 2); /* RFC 9112 2.2 */
    }
    struct span rest = head;
    struct span line;
    if (!next_line(&rest, &line)) {
        return bad(info, "bare CR or LF, or a control character");
    }
    enum err e = request_line_read(line, &h, info);
    if (e != OK) {
        return e;
    }
    h.lines = rest;
    e = headers_read(rest, &h, info);
    if (e != OK) {
        return e;
    }
    if (h.host.p == NULL) {
        return bad(info, "no Host");
    }
    if (h.is_chunked && (h.has_length || h.is_http10)) {
        return bad(info, h.has_length ? "Content-Length and Transfer-Encoding (RFC 9112 6.1)"
                                      : "Transfer-Encoding in HTTP/1.0 (RFC 9112 6.1)");
    }
    h.wants_upgrade = h.wants_upgrade && h.upgrade.n > 0;
    h.wants_close =
        h.wants_close || (h.is_http10 && !list_has(http_head_get(&h, "Connection"), "keep-alive"));
    *ret = h;
    return OK;
}

/* --- answers ------------------------------------------------------------------------------- */

/* "HTTP/1.1 101 Switching Protocols"; the words may be missing. 0: not a status line. */
static unsigned status_read(struct span line)
{
    uint64_t v;
    struct span version = span_cut(&line, ' ');
    struct span code = span_cut(&line, ' ');
    if ((!span_is(version, "HTTP/1.1") && !span_is(version, "HTTP/1.0")) || code.n != 3 ||
        !span_to_u64(code, &v) || v < 100) {
        return 0;
    }
    return (unsigned)v;
}

enum err http_answer_read(struct span head, unsigned *ret_status, struct span *ret_lines,
                          struct err_info *info)
{
    struct span rest = head, line;
    unsigned status = next_line(&rest, &line) ? status_read(line) : 0;
    struct span lines = rest;
    if (status == 0) {
        return bad(info, "status line");
    }
    for (unsigned n = 0; next_line(&rest, &line); n++) {
        if (line.n == 0) {
            if (rest.n != 0) {
                return bad(info, "bytes behind the empty line");
            }
            *ret_status = status;
            *ret_lines = lines;
            return OK;
        }
        if (n == LIMIT_HTTP_HEADERS) {
            return err_set(info, E_LIMIT, "HTTP head: more than %u headers", LIMIT_HTTP_HEADERS);
        }
        size_t colon = span_find(line, ':');
        if (colon == line.n || !is_token(span_sub(line, 0, colon))) {
            return bad(info, "header without a name, or folded (RFC 9112 5.2)");
        }
    }
    return bad(info, "bare CR or LF, or a control character");
}
