/* From decoded pixels to an answer, in C99 without a library but the standard one. model.h has the model's constants. */
#ifndef PNEUMO_EDGE_H
#define PNEUMO_EDGE_H

#include <stddef.h>
#include <stdint.h>

#include "model.h"

/* An answer. prediction_set has a bit for each class, the first one the lowest; -1: the model does not say.
   uncertain and out_of_distribution: 0, 1, or -1 where the model does not say; distance is then not set. */
typedef struct {
  double probabilities[PE_CLASSES];
  int label;
  long prediction_set;
  int uncertain;
  double distance;
  int out_of_distribution;
} pe_answer;

/* Grey pixels of decoded ones, of 1 channel or 3 (RGB). */
void pe_grey(const uint8_t *pixels, size_t count, int channels, uint8_t *grey);

/* Grey pixels of PE_WIDTH x PE_HEIGHT, with antialiasing. Returns 0, or -1 if there is no memory. */
int pe_resize(const uint8_t *grey, int width, int height, uint8_t *resized);

/* The tensor of the model; it has PE_TENSOR_SIZE elements. */
void pe_tensor(const uint8_t *resized, pe_element *tensor);

/* The answer to outputs: scores has PE_SCORES values, components PE_COMPONENTS (NULL where that is 0). */
void pe_decide(const float *scores, const float *components, pe_answer *answer);

#endif
