/* What port.c needs of an engine. Each function ends the program with a message if it fails. */
#ifndef PE_ENGINE_H
#define PE_ENGINE_H

#include "model.h"

void pe_engine_open(const char *path);

/* Fills the outputs of the model, in their order, each of PE_OUTPUT_SIZES values. */
void pe_engine_run(const pe_element *tensor, float **outputs);

#endif
