/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Every bound on what a peer can make us allocate, queue, wait for or retry, with its source.
 * Each has a test one past it. Sizes in bytes unless the name says otherwise.
 */
#ifndef BASE_LIMITS_H
#define BASE_LIMITS_H

/* clang-format off */

/* --- log, configuration, files: Berth ------------------------------------------------------ */
#define LIMIT_LOG_LINE 4096u
#define LIMIT_LOG_RATE 200u /* lines of one event name a second */
#define LIMIT_CONF_FILE (1u << 20)
#define LIMIT_FILE_SMALL (1u << 20) /* keys, certificates, identities */

/* --- tokens: docs/protocol/sas.md 1, 5 ----------------------------------------------------- */
#define LIMIT_SAS_TOKEN 4096u
#define LIMIT_SAS_SE_DIGITS 19u
#define LIMIT_SAS_SKEW_S 300
#define LIMIT_KEY_MIN 16u
#define LIMIT_KEY_MAX 64u

/* --- identifiers: docs/protocol/sas.md 11 -------------------------------------------------- */
#define LIMIT_ID 128u
#define LIMIT_ADMIN_NAME 64u
#define LIMIT_HOST 253u
#define LIMIT_X509_RID 64u

/* --- MQTT: docs/protocol/hub-mqtt.md ------------------------------------------------------- */
#define LIMIT_MQTT_PACKET (512u << 10) /* 1: then close */
#define LIMIT_MQTT_CONNECT_PACKET (16u << 10) /* before authentication */
#define LIMIT_MQTT_CONNECT_S 30u       /* 1: CONNECT deadline after TLS */
#define LIMIT_MQTT_KEEPALIVE_S 1767u   /* 2.6: server cap */
#define LIMIT_MQTT_FILTERS 10u         /* 4.2 */
#define LIMIT_MQTT_TOPIC 4096u         /* Berth: bags travel in topics */
#define LIMIT_MQTT_INFLIGHT_OUT 16u    /* 6.2 */
#define LIMIT_MQTT_RING 1024u          /* Berth: PUBLISHes of one link not yet acknowledged */
#define LIMIT_MQTT_DPS_IDLE_S 60u      /* dps-device.md D40 */

/* --- messages: docs/protocol/limits.md 3 --------------------------------------------------- */
#define LIMIT_D2C_MESSAGE 262144u
#define LIMIT_D2C_BATCH_RAW (1u << 20)
#define LIMIT_D2C_BATCH_MESSAGES 500u
#define LIMIT_PROPS 200u /* Berth: pairs in one bag */

/* --- twins: docs/protocol/hub-mqtt.md 7.2 -------------------------------------------------- */
#define LIMIT_TWIN_SECTION (32u << 10)
#define LIMIT_TWIN_TAGS (8u << 10)
#define LIMIT_TWIN_DEPTH 10u
#define LIMIT_TWIN_KEY 1024u
#define LIMIT_TWIN_STRING 4096u
#define LIMIT_TWIN_BODY (128u << 10) /* Berth: raw JSON of one request */

/* --- JSON: threat N5 ----------------------------------------------------------------------- */
#define LIMIT_JSON_TOKENS 16384u
#define LIMIT_JSON_DEPTH 32u

/* --- HTTP: threat N2, N4 ------------------------------------------------------------------- */
#define LIMIT_HTTP_HEAD 16384u
#define LIMIT_HTTP_HEADERS 100u
#define LIMIT_HTTP_HEAD_S 10u
#define LIMIT_HTTP_BODY_S 60u
#define LIMIT_HTTP_BODY_RATE 512u   /* Berth: bytes a second that a body brings on the average ... */
#define LIMIT_HTTP_BODY_GRACE_S 10u /* ... from so many seconds after its head on */
#define LIMIT_HTTP_IDLE_S 120u
#define LIMIT_HTTP_IDLE_PAIR_S 5u   /* Berth: then an idle connection gives its buffers back */
#define LIMIT_HTTP_LINGER_MS 1000u  /* Berth: how long input is thrown away behind a refusal */
#define LIMIT_HTTP_POOL 16384u      /* measured: of libmicrohttpd, for one connection */
#define LIMIT_HTTP_ARENA (4u << 20) /* Berth: what the work on one request may allocate */
#define LIMIT_HTTP_BODY_REGISTRY (64u << 10)
#define LIMIT_DPS_BODY 98304u /* docs/protocol/limits.md 4 */
#define LIMIT_ADMIN_BODY (64u << 10)

/* --- connections: threat N1, N3 ------------------------------------------------------------ */
#define LIMIT_HANDSHAKE_S 10u
#define LIMIT_HANDSHAKES_A_TURN 2u
#define LIMIT_HANDSHAKES_DUE 64u /* Berth: with so many steps to do nobody else begins (net/door.h) */
#define LIMIT_WAITING_FACTOR 8u  /* Berth: so many times those that may have begun wait behind them */
#define LIMIT_UNAUTHENTICATED_MS 1000u /* N3: who has waited longer makes room for the next one of its address */
#define LIMIT_UNAUTHENTICATED_ALL_MS 10000u /* Berth: the same for the next one of any address */
#define LIMIT_CONN_OUT_HIGH (256u << 10)
#define LIMIT_CONN_OUT_LOW (64u << 10)
#define LIMIT_CONN_OUT_MAX (4u << 20) /* then the link is closed */
#define LIMIT_CONN_IN (16u << 10)     /* unread bytes kept, unless the handler wants more */
#define LIMIT_CONN_READ_A_TURN (64u << 10) /* of one connection, so that all get their turn */
#define LIMIT_CONN_CLOSE_S 10u        /* to flush what was written before a close */
#define LIMIT_CONN_LINGER_MS 1000u    /* to let the peer read the last bytes before the reset */
#define LIMIT_ACCEPTS_A_TURN 64u
#define LIMIT_ACCEPT_PAUSE_MS 100u    /* out of descriptors */
#define LIMIT_TLS_CERT_LIST (32u << 10) /* N7: bytes of one Certificate message */
#define LIMIT_WS_CLOSE_MS 2000u       /* to wait for the peer's Close frame */
#define LIMIT_WS_HANDSHAKE (8u << 10) /* answer head of an upgrade */

/* --- certificates: threat N7 --------------------------------------------------------------- */
#define LIMIT_CHAIN_CERTS 8u
#define LIMIT_CERT_DER (16u << 10)
#define LIMIT_RSA_BITS_MIN 2048u
#define LIMIT_RSA_BITS_MAX 4096u
#define LIMIT_CA_CERTS 25u
#define LIMIT_CHAIN_CACHE 16384u /* Berth: verdicts kept by one server; 7 MiB */
#define LIMIT_CHAIN_CACHE_CERTS 64u /* Berth: parsed intermediates kept by one worker */
#define LIMIT_CERT_HOSTS 64u        /* Berth: names in one server certificate */
#define LIMIT_SIGNER_QUEUE 1024u    /* Berth: signing jobs that wait, then E_QUEUE_FULL */
#define LIMIT_SIGNER_THREADS 16u
#define LIMIT_ISSUING_CAS 25u       /* Berth: CAs of one DPS that issue for devices */
#define LIMIT_MASTER_KEYS 16u       /* Berth: numbered keys in one master key file */

/* --- DPS: docs/protocol/limits.md 4 -------------------------------------------------------- */
#define LIMIT_DPS_BULK 10u
#define LIMIT_TRUST_BUNDLES 100u          /* Berth: of one DPS */
#define LIMIT_TRUST_BUNDLE_CERTS 16u      /* Berth: in one of them */
#define LIMIT_TRUST_BUNDLE (48u << 10)    /* Berth: bytes of one as it is told to each of its devices */
#define LIMIT_DPS_GROUPS 100u
#define LIMIT_DPS_LINKED_HUBS 50u
#define LIMIT_DPS_WEBHOOK_HOSTS 64u /* Berth: patterns in the settings */
#define LIMIT_DPS_NETWORKS 1000u    /* Berth: rows of the latency table */
#define LIMIT_GEOIP_FILE (512u << 20) /* databases of cities have some 100 MB */
#define LIMIT_DPS_LATENCY_MS 60000u /* Berth: longest round trip that is believed */
#define LIMIT_DPS_REFUSALS 50000           /* Berth: rows kept for `berth dps explain` */
#define LIMIT_DPS_REFUSALS_STRANGERS 5000  /* of ids that nobody enrolled */
#define LIMIT_DPS_CHALLENGES 65536u /* Berth: TPMs that were sent a key and have not used it up; 400 bytes each */
#define LIMIT_TPM_PUBLIC_TEXT 1024u /* dps-tpm.md 2.1: base64 of a public area */
#define LIMIT_QUERY_PAGE 1000u
#define LIMIT_QUERY_PAGE_DEFAULT 100u
#define LIMIT_DEPENDENTS_PAGE 1000u
#define LIMIT_DEPENDENTS_COUNT 1000000u /* more are told as "not exact" */
#define LIMIT_EXPIRY_ITEMS 512u         /* CA certificates, and two for each of 200 groups, fit */
#define LIMIT_QUERY_TEXT 8192u /* docs/protocol/limits.md: query text */
#define LIMIT_QUERY_DEPTH 64u
#define LIMIT_QUERY_ROWS 50000u /* looked at for one page: 0.1 s */

/* --- policies ------------------------------------------------------------------------------ */
#define LIMIT_POLICIES 64u

/* --- hub: Berth ------------------------------------------------------------------------------ */
#define LIMIT_HUB_WORK (2u << 20)       /* memory of one registry or twin write under way */
#define LIMIT_HUB_RETRIES 8u            /* prepared again so often, then E_BUSY */
#define LIMIT_HUB_NOTED 65536u          /* identities of one worker whose connection facts wait for the writer */
#define LIMIT_HUB_NOTE_S 5u             /* and for how long */
#define LIMIT_HUB_METERED (1u << 20)    /* devices whose allowance is in memory: those of the last minute (threat D6) */
#define LIMIT_HUB_LINK_BYTES (1u << 20) /* telemetry of one link not yet on disk; then it is not read */
#define LIMIT_HUB_LINK_PATCHES 32u      /* reported patches of one link that wait for each other, then 429 */
#define LIMIT_HUB_LINK_PATCH_BYTES (512u << 10) /* and their bytes */
#define LIMIT_HUB_SHAPE_S 10u           /* hub-mqtt.md 11: a link whose telemetry the log does not take is held so long, then closed */
#define LIMIT_HUB_SHAPE_STEP_MS 20u     /* and asks again so often */
#define LIMIT_MODULES 50u               /* limits.md row 11: of one device */
#define LIMIT_STREAM_NAME 64u           /* device-streams.md 2.2 */
#define LIMIT_STREAM_WAIT_S 300u        /* device-streams.md 2.2: connect, response */
#define LIMIT_REGISTRY_LIST 1000u       /* hub-service-rest.md 5.4 */
#define LIMIT_REGISTRY_LIST_S 10u       /* a scan's deadline */
#define LIMIT_REGISTRY_LIST_BYTES (8u << 20)
#define LIMIT_STATUS_REASON 128u        /* hub-service-rest.md 5.2, characters */
#define LIMIT_TWIN_TEXT (256u << 10)    /* JSON text of a section: what the size rule does not count */
#define LIMIT_TWIN_META (512u << 10)    /* stamps of a section */
#define LIMIT_MODEL_ID 256u             /* bytes of a model id that are kept */
#define LIMIT_OWNER 400u                /* scope / kind / enrollment */
#define LIMIT_OPERATION_ID 128u
#define LIMIT_PROVISION_BODY (256u << 10) /* a whole twin with its text */
#define LIMIT_PROVISION_MANY 64u        /* devices in one request */

/* --- store --------------------------------------------------------------------------------- */
#define LIMIT_STORE_BATCH 4096u            /* operations in one commit */
#define LIMIT_STORE_QUEUE_OPS 65536u       /* then E_BUSY */
#define LIMIT_STORE_QUEUE_BYTES (64u << 20)
#define LIMIT_STORE_SCANS 1024u     /* waiting scans, then E_BUSY */
#define LIMIT_STORE_SCAN_THREADS 16u
#define LIMIT_LOG_PARTITIONS 128u
/* clang-format on */

#endif
