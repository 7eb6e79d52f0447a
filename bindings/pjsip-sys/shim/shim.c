#include "shim.h"

#include <pj/log.h>

/* PJLIB puts time, sender and thread before the text, and an error message in place of a line that doesn't fit. */
#define LONGEST (PJ_LOG_MAX_SIZE > 512 ? PJ_LOG_MAX_SIZE - 256 : PJ_LOG_MAX_SIZE / 2)

#define LOG(level) PJ_LOG(level, (sender, "%.*s", (int)LONGEST, text))

void sipws_pj_log(int level, const char *sender, const char *text)
{
    /* A PJSIP built with a lower PJ_LOG_MAX_LEVEL makes nothing of the levels above. */
    (void)sender;
    (void)text;

    /* PJ_LOG pastes its level into a function's name: it must be a numeral. */
    switch (level < 1 ? 1 : level > 6 ? 6 : level) {
    case 1: LOG(1); break;
    case 2: LOG(2); break;
    case 3: LOG(3); break;
    case 4: LOG(4); break;
    case 5: LOG(5); break;
    case 6: LOG(6); break;
    }
}

pj_status_t sipws_pj_timer_heap_schedule(pj_timer_heap_t *heap, pj_timer_entry *entry, const pj_time_val *delay)
{
    return pj_timer_heap_schedule(heap, entry, delay);
}

pj_status_t sipws_pjsip_endpt_schedule_timer(pjsip_endpoint *endpt, pj_timer_entry *entry, const pj_time_val *delay)
{
    return pjsip_endpt_schedule_timer(endpt, entry, delay);
}

pj_status_t sipws_pjsip_endpt_schedule_timer_w_grp_lock(pjsip_endpoint *endpt, pj_timer_entry *entry,
                                                        const pj_time_val *delay, int id, pj_grp_lock_t *lock)
{
    return pjsip_endpt_schedule_timer_w_grp_lock(endpt, entry, delay, id, lock);
}
