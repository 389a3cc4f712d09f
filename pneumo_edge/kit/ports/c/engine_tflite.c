/* Runs a .tflite file with the C API of TensorFlow Lite (tensorflow/lite/c/c_api.h), which LiteRT also builds:

     cc -O2 -DPE_ENGINE -Itensorflow port.c pneumo_edge.c engine_tflite.c -ltensorflowlite_c -lm -o port

   This file follows the vendor's header. It was not compiled or run when the kit was made, because no package that was
   at hand has that library. Run it on the test vectors before you use it. */
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <tensorflow/lite/c/c_api.h>

#include "engine.h"

static TfLiteInterpreter *interpreter;

static void check(int is_good, const char *what) {
  if (!is_good) {
    fprintf(stderr, "error: %s\n", what);
    exit(1);
  }
}

void pe_engine_open(const char *path) {
  TfLiteModel *model = TfLiteModelCreateFromFile(path);
  TfLiteInterpreterOptions *options = TfLiteInterpreterOptionsCreate();
  check(model != NULL, path);
  TfLiteInterpreterOptionsSetNumThreads(options, 1);
  interpreter = TfLiteInterpreterCreate(model, options);
  check(interpreter && TfLiteInterpreterAllocateTensors(interpreter) == kTfLiteOk, "the model cannot be loaded");
}

void pe_engine_run(const pe_element *tensor, float **outputs) {
  TfLiteTensor *image = TfLiteInterpreterGetInputTensor(interpreter, 0);
  check(TfLiteTensorCopyFromBuffer(image, tensor, PE_TENSOR_SIZE * sizeof(pe_element)) == kTfLiteOk, "another input");
  check(TfLiteInterpreterInvoke(interpreter) == kTfLiteOk, "the model cannot be run");
  for (int i = 0; i < PE_OUTPUTS; i++) {
    const TfLiteTensor *output = TfLiteInterpreterGetOutputTensor(interpreter, i);
    const TfLiteQuantizationParams quantized = TfLiteTensorQuantizationParams(output);
    const void *values = TfLiteTensorData(output);
    for (int k = 0; k < PE_OUTPUT_SIZES[i]; k++) {
      switch (TfLiteTensorType(output)) {
        case kTfLiteUInt8:
          outputs[i][k] = quantized.scale * (float)(((const uint8_t *)values)[k] - quantized.zero_point);
          break;
        case kTfLiteInt8:
          outputs[i][k] = quantized.scale * (float)(((const int8_t *)values)[k] - quantized.zero_point);
          break;
        default:
          outputs[i][k] = ((const float *)values)[k];
      }
    }
  }
}
