/*
 * A very small SIP stack: every message in, by callback, answers out. It registers (RFC 3261 section 10), answers
 * OPTIONS, and passes MESSAGE (RFC 3428) on between those who registered. Your own stack would stand in its place.
 */
#ifndef STACK_H
#define STACK_H

#include <sipws.h>

/* The two callbacks: see sipws_message_handler. They run on threads of the library's, several at once. */
void stack_message(void *user_data, sipws_server *server, sipws_flow_id flow, const sipws_message *message);
void stack_closed(void *user_data, sipws_server *server, sipws_flow_id flow, uint32_t reason);

#endif
