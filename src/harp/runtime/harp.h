/* Runs a plan of a network (harp.deploy.save_plan) without Python: C99 and C++, link one of the libraries _engine_*.so.
 *
 * A plan holds places in memory, which the engine takes at their word: load plans as you would load shared libraries, from
 * those you trust. It is of one build of the engine (avx512, avx2, base, and those with 16 bits between layers), of one
 * version of harp, and of one byte order; harp_open refuses it in any other, and a file that is cut short.
 */
#ifndef HARP_H
#define HARP_H

#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

typedef struct harp_network harp_network;

/* The network in a plan; null, and in *why (if that is not null) a sentence that lasts, where there is none to be had. */
harp_network *harp_open(const char *path, const char **why);

/* How many numbers an image has (channels x height x width), and how many logits it is answered with. */
int64_t harp_image_size(const harp_network *network);
int64_t harp_logit_count(const harp_network *network);

/* The logits [images][harp_logit_count] of images [images][harp_image_size], both float32 and dense, images in [0, 1] or
 * whatever range the package names. 0; or 1 where memory cannot be had, or images or threads are fewer than one. One call
 * of a network at a time: open the plan once more for each thread that calls by itself. */
int harp_logits(harp_network *network, const float *images, int64_t count, int32_t threads, float *logits);

void harp_close(harp_network *network);

#ifdef __cplusplus
}
#endif

#endif
