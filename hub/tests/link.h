/* SPDX-License-Identifier: Apache-2.0 */
/*
 * MQTT links on the test bed: hub/tests/bed.h plus the telemetry log, a struct hub_worker, the hooks of sessions, and clients over socket
 * pairs that speak packets. The log's disk can be held, so that appends stay under way.
 */
#ifndef HUB_TESTS_LINK_H
#define HUB_TESTS_LINK_H

#include "hub/mqtt.h"
#include "hub/tests/bed.h"
#include "wire/mqtt.h"

#define LINK_KEY "MDEyMzQ1Njc4OWFiY2RlZjAxMjM0NTY3ODlhYmNkZWY="
#define LINK_KEY2 "ZmVkY2JhOTg3NjU0MzIxMGZlZGNiYTk4NzY1NDMyMTA="
#define LINK_AUTH                                                                                  \
    "{\"symmetricKey\":{\"primaryKey\":\"" LINK_KEY "\",\"secondaryKey\":\"" LINK_KEY2 "\"}}"

int link_setup(void **state);
int link_teardown(void **state);
void link_turn(unsigned n);
/* Appends wait before they are written, until released; how many batches have come there. */
void link_hold_log(bool held);
/* Room on the log's disk. */
void link_set_disk(uint64_t n);

struct peer;
struct heard {
    enum mqtt_type type; /* 0: the link was closed */
    uint8_t first;
    struct span body; /* until the next packet is heard */
};
struct peer *peer_new(void);
/* Closes the socket. NULL is fine. */
void peer_end(struct peer *p);
/* While set, writing does not turn the loop. */
extern bool link_is_still;
void peer_write(struct peer *p, struct span b);
/* As much as the socket takes now. */
size_t peer_try(struct peer *p, struct span b);
struct heard peer_hear(struct peer *p);
/* Nothing is there and the link is open, after some turns. */
bool peer_is_quiet(struct peer *p);
bool peer_is_closed(struct peer *p);

struct hello {
    const char *id;
    const char *username; /* NULL: the usual one */
    const char *password; /* NULL: a good token, LINK_KEY */
    bool clean;
    const char *will_topic, *will;
    uint8_t will_qos;
    int64_t ttl_s; /* 0: an hour */
};
/* Sends CONNECT only. */
void peer_hello(struct peer *p, struct hello h);
/* The CONNACK's code, 256 | code with session present; -1: closed without one. */
int peer_connack(struct peer *p);
/* Both; a new one. Fails the test when it is refused. */
struct peer *peer_connect(struct hello h);
void peer_publish(struct peer *p, const char *topic, struct span payload, uint8_t qos, uint16_t id);
/* Its code; -1: closed before. */
int peer_subscribe(struct peer *p, const char *filter, uint8_t qos);
void peer_disconnect(struct peer *p);
/* Hears until a PUBLISH comes and gives its topic, with the body behind a blank; "" : closed. Static storage. */
const char *peer_message(struct peer *p);
/* Hears until a PUBACK comes and gives its id; 0: closed. */
unsigned peer_puback(struct peer *p);

/* Rows of the log, all partitions; text is "meta|body" of the last. */
unsigned link_rows(char *last, size_t n);

#endif
