/* What of PJSIP is macros with arguments, as functions. */
#pragma once

#include <pjsip.h>

/* PJ_LOG(level, (sender, "%s", text)): level 1 (error) to 6 (trace), another counts as the nearest. The thread must be
 * known to PJLIB. A text that is longer than PJ_LOG_MAX_SIZE allows is cut. */
void sipws_pj_log(int level, const char *sender, const char *text);

/* The functions of the same names without `sipws_`, which with PJ_TIMER_DEBUG (PJSIP's default) are macros. */
pj_status_t sipws_pj_timer_heap_schedule(pj_timer_heap_t *heap, pj_timer_entry *entry, const pj_time_val *delay);
pj_status_t sipws_pjsip_endpt_schedule_timer(pjsip_endpoint *endpt, pj_timer_entry *entry, const pj_time_val *delay);
pj_status_t sipws_pjsip_endpt_schedule_timer_w_grp_lock(pjsip_endpoint *endpt, pj_timer_entry *entry,
                                                        const pj_time_val *delay, int id, pj_grp_lock_t *lock);
