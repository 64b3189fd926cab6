/* SPDX-License-Identifier: Apache-2.0 */
/*
 * HTTP/1.1 requests on the raw bytes, before any library sees them: is the head one that every
 * parser reads alike, and where does the message end? Also the readers of If-Match, paths and
 * queries.
 *
 *   http_head_find -> http_head_read -> http_body_init, http_body_feed until done -> next head
 *
 * Ownership   spans point into the head given (paths: decoded into the arena).
 * Threads     one owner at a time.
 * Errors      E_AGAIN more bytes needed; E_TOO_LARGE head above LIMIT_HTTP_HEAD (431); E_LIMIT
 *             more than LIMIT_HTTP_HEADERS (431); E_VERSION not HTTP/1.0 or 1.1 (505); E_MALFORMED
 *             all else (400). After any but E_AGAIN: answer, close, read nothing more.
 * Refused     two Content-Length; Content-Length with Transfer-Encoding; Transfer-Encoding other
 *             than "chunked" or in HTTP/1.0; folded lines; space before the colon; empty names;
 *             bare CR or LF, NUL and other controls; Host missing, repeated or ill-formed; targets
 *             that do not begin with '/'; chunk trailers; Expect other than 100-continue.
 * Limits      LIMIT_HTTP_HEAD, LIMIT_HTTP_HEADERS, HTTP_CHUNK_LINE, HTTP_SEGMENTS.
 * Spec        RFC 9112 2-7; docs/threat-model.md N4; docs/protocol/hub-service-rest.md 4.2.
 */
#ifndef WIRE_HTTP_H
#define WIRE_HTTP_H

#include "base/arena.h"
#include "base/err.h"
#include "base/span.h"

/* --- head --------------------------------------------------------------------------------- */
/* Looks for the empty line. *scanned: where to go on, 0 at the start of each head; it moves on, so
 * that a slow sender costs no rescan. OK: *ret_n bytes are the head with its empty line. One empty
 * line before the request is passed over. */
MUST_USE enum err http_head_find(struct span in, size_t *scanned, size_t *ret_n);

struct http_head {
    struct span method;
    struct span target; /* as sent */
    struct span path;   /* raw, without query */
    struct span query;  /* raw, without '?'; empty when none */
    bool is_http10;
    struct span host; /* as sent, port included */
    bool has_length;
    uint64_t length; /* 0 when !has_length */
    bool is_chunked;
    bool wants_close;   /* Connection: close, or HTTP/1.0 without keep-alive */
    bool wants_upgrade; /* Connection: upgrade and an Upgrade header */
    struct span upgrade;
    bool expects_continue;
    bool has_content_encoding; /* to be refused with 415 */
    size_t n_headers;
    struct span lines; /* for http_head_next */
};
MUST_USE enum err http_head_read(struct span head, struct http_head *ret, struct err_info *info);
/* Headers in order, value trimmed; *rest starts as head.lines. */
bool http_head_next(struct span *rest, struct span *ret_name, struct span *ret_value);
/* First of that name (without case); empty with p NULL when absent. */
struct span http_head_get(const struct http_head *h, const char *name);
/* "name:443" -> "name", "[::1]:80" -> "[::1]". */
struct span http_host_name(struct span host);
/* uri-host [":" port] of RFC 3986, strictly enough that no two parsers differ. */
bool http_host_ok(struct span host);

/* --- head of an answer, for clients -------------------------------------------------------- */
/* As http_head_find found it. The headers: http_head_next with *ret_lines. E_MALFORMED, E_LIMIT. */
MUST_USE enum err http_answer_read(struct span head, unsigned *ret_status, struct span *ret_lines,
                                   struct err_info *info);

/* --- body boundary ------------------------------------------------------------------------ */
#define HTTP_CHUNK_LINE 256u /* chunk size with extensions */
struct http_body {
    uint8_t state;
    bool is_chunked;
    uint64_t left;    /* of the length or the chunk */
    uint64_t payload; /* body bytes so far, framing not counted: compare with the route's limit */
    uint16_t line_n;
    uint8_t digits;
};
void http_body_init(struct http_body *b, const struct http_head *h);
/* Takes the bytes that belong to this message from the front of in: *ret_used. *ret_done: the
 * message ends there, the next head begins behind. */
MUST_USE enum err http_body_feed(struct http_body *b, struct span in, size_t *ret_used,
                                 bool *ret_done, struct err_info *info);
bool http_body_is_done(const struct http_body *b);

/* --- If-Match ----------------------------------------------------------------------------- */
enum http_match_kind { HTTP_MATCH_NONE, HTTP_MATCH_ANY, HTTP_MATCH_ETAG };
struct http_match {
    enum http_match_kind kind;
    struct span etag; /* without quotes */
};
/* value: the header's, empty when absent. E_ARG for a list. */
MUST_USE enum err http_if_match_read(struct span value, struct http_match *ret,
                                     struct err_info *info);
/* No precondition, wildcard, or equal. */
bool http_match_fits(const struct http_match *m, struct span etag);

/* --- paths and queries -------------------------------------------------------------------- */
#define HTTP_SEGMENTS 16u
struct http_path {
    struct span segment[HTTP_SEGMENTS]; /* decoded once */
    size_t n;
};
/* Splits on '/', then decodes each segment; one trailing slash is dropped. E_MALFORMED: bad escape,
 * NUL, not UTF-8, an empty segment; E_LIMIT too many; E_NOMEM. "." and ".." are segments like any other: nothing is normalised. */
MUST_USE enum err http_path_read(struct span raw_path, struct arena *a, struct http_path *ret);
/* pattern "/twins/{id}/methods": fixed segments without case, "{name}" takes one. 0: no match; else
 * a rank, the greater the more its first segments are fixed, so that the best of several patterns
 * is the greatest. params: at most max, in order. */
unsigned http_path_match(const char *pattern, const struct http_path *p, struct span *ret_params,
                         size_t max);
/* First parameter of that name (without case), decoded into the arena, '+' stays. Absent: OK,
 * *ret_found false. "x" alone: empty, found. E_MALFORMED bad escape, NUL or not UTF-8. */
MUST_USE enum err http_query_get(struct span query, const char *name, struct arena *a,
                                 struct span *ret, bool *ret_found);

#endif
