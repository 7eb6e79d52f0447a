/* Who is where: addresses of record and the flows that they registered on. Thread-safe. */
#ifndef LOCATIONS_H
#define LOCATIONS_H

#include <sipws.h>
#include <stdbool.h>

/* The latest flow that registers an address has it. False where there is no room for one more. */
bool locations_put(sipws_bytes aor, sipws_flow_id flow, long expires);
/* Only if it is that flow's. */
void locations_remove(sipws_bytes aor, sipws_flow_id flow);
/* The flow is closed: with it goes all that it had registered. */
void locations_forget(sipws_flow_id flow);
/* 0 where nobody has registered it. */
sipws_flow_id locations_find(sipws_bytes aor);

#endif
