/* Requests that were passed on and wait for their final response. Thread-safe. */
#ifndef PENDING_H
#define PENDING_H

#include <sipws.h>
#include <stdint.h>

/* Remembers who asked whom; the number is for the branch of our Via. The oldest of 4096 is forgotten. */
uint64_t pending_add(sipws_flow_id from, sipws_flow_id to);
/* Whom the answer is for; 0 where `by` was not asked that. A final answer is the last. */
sipws_flow_id pending_answered(uint64_t number, sipws_flow_id by, int final);

#endif
