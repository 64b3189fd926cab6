/* SPDX-License-Identifier: Apache-2.0 */
/* The bits of MQTT 3.1.1 that reader and writer share; for wire/mqtt*.c only. */
#ifndef WIRE_MQTT_BITS_H
#define WIRE_MQTT_BITS_H

#define TEXT_MAX 65535u
#define BODY_MAX 268435455u /* four bytes of seven bits, section 2.2.3 */

/* 3.1.2.3 */
enum connect_flag {
    F_RESERVED = 0x01,
    F_CLEAN = 0x02,
    F_WILL = 0x04,
    F_WILL_QOS = 0x18,
    F_WILL_RETAIN = 0x20,
    F_PASSWORD = 0x40,
    F_USERNAME = 0x80
};
/* 3.3.1 */
enum publish_flag { F_RETAIN = 0x01, F_QOS = 0x06, F_DUP = 0x08 };

#endif
