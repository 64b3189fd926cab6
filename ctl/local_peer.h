/* SPDX-License-Identifier: Apache-2.0 */
/* Whose is the other end of a TCP connection inside this host? Linux tells in /proc/net/tcp and tcp6. Threat E4. */
#ifndef CTL_LOCAL_PEER_H
#define CTL_LOCAL_PEER_H

#include "net/conn.h"

/* Of the uid that runs this program, or root's. False also for a peer on another host, and when it cannot be found out. */
bool local_peer_is_own(struct conn *c);
/* The same over the text of such a table: whose is the end `local` of the connection to `remote`, both as the kernel prints them
 * ("0100007F:1F90"). Ends without a socket (TIME_WAIT: printed as root's, inode 0) belong to nobody. */
bool local_peer_in_table(const char *table, const char *local, const char *remote,
                         unsigned long *ret_uid);

#endif
