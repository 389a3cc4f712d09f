// Starter code for iOS, not compiled or run when the kit was made. TensorFlowLiteSwift (CocoaPods, Swift Package Manager).

import Foundation
import TensorFlowLite

final class TfliteEngine: Engine {
  private let interpreter: Interpreter

  init(path: String) throws {
    interpreter = try Interpreter(modelPath: path)
    try interpreter.allocateTensors()
  }

  func run(_ tensor: [Double]) throws -> [[Float]] {
    let data: Data
    switch try interpreter.input(at: 0).dataType {
    case .float32: data = tensor.map(Float.init).withUnsafeBytes { Data($0) }
    case .uInt8: data = Data(tensor.map { UInt8($0) })
    default: data = Data(tensor.map { UInt8(bitPattern: Int8($0)) })
    }
    try interpreter.copy(data, toInputAt: 0)
    try interpreter.invoke()
    return try (0..<interpreter.outputTensorCount).map { index in
      let output = try interpreter.output(at: index)
      guard let quantized = output.quantizationParameters, output.dataType != .float32 else {
        return output.data.withUnsafeBytes { Array($0.bindMemory(to: Float.self)) }
      }
      let isSigned = output.dataType == .int8
      return output.data.map { byte in
        let value = isSigned ? Int(Int8(bitPattern: byte)) : Int(byte)
        return quantized.scale * Float(value - quantized.zeroPoint)
      }
    }
  }
}
