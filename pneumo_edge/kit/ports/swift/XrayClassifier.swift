// Starter code for iOS. It follows the vendors' documentation and was not compiled or run when the kit was made: run it
// on the test vectors before you use it.
//
// Add the model file and spec.json to the app's bundle. The engine is in the other file of this folder.

import CoreGraphics
import Foundation
import ImageIO

struct Spec: Decodable {
  struct Scaling: Decodable { let scale, offset: [Double]; let step: Double?; let zeroPoint: Int? }
  struct Input: Decodable { let height, width, channels: Int; let dtype, layout: String; let scaling: Scaling? }
  struct Decision: Decodable { let positiveClass: String?; let threshold: Double? }
  struct Conformal: Decodable { let leastPositive, mostNegative: Double?; let least: [String: Double]? }
  struct InputCheck: Decodable { let mean, scale: [Double]; let parts: [Int]; let limit: Double }
  let classNames: [String]
  let input: Input
  let decision: Decision
  let conformal: Conformal?
  let inputCheck: InputCheck?
  let scores: String

  static func read(_ data: Data) throws -> Spec {
    let decoder = JSONDecoder()
    decoder.keyDecodingStrategy = .convertFromSnakeCase
    return try decoder.decode(Spec.self, from: data)
  }
}

struct Answer {
  let probabilities: [String: Double]
  let label: String
  let predictionSet: [String]?
  let distance: Double?
  let outOfDistribution: Bool?
  var uncertain: Bool? { predictionSet.map { $0 != [label] } }
}

/// Runs the model: all outputs in their order, dequantized. The tensor's elements are numbers of the input's type.
protocol Engine {
  func run(_ tensor: [Double]) throws -> [[Float]]
}

enum Refused: Error { case notAnImage, moreThan8Bits, size(Int, Int) }

struct XrayClassifier {
  let spec: Spec
  /// `outputs` of vectors.json.
  let outputs: [String]
  let engine: Engine

  func classify(_ file: Data) throws -> Answer {
    let (pixels, width, height) = try greyPixels(of: file)
    let grey = resize(pixels, width, height, spec.input.width, spec.input.height)
    let values = try engine.run(tensor(grey))
    return answer(Dictionary(uniqueKeysWithValues: zip(outputs, values)))
  }

  private func greyPixels(of file: Data) throws -> ([Int], Int, Int) {
    guard let source = CGImageSourceCreateWithData(file as CFData, nil),
      let properties = CGImageSourceCopyPropertiesAtIndex(source, 0, nil) as? [CFString: Any],
      let stored = CGImageSourceCreateImageAtIndex(source, 0, nil)
    else { throw Refused.notAnImage }
    if stored.bitsPerComponent > 8 { throw Refused.moreThan8Bits }
    if min(stored.width, stored.height) < 28 { throw Refused.size(stored.width, stored.height) }
    let rgb = CGColorSpaceCreateDeviceRGB()
    var bytes = [UInt8](repeating: 0, count: stored.width * stored.height * 4)
    // No alpha: it is ignored, not blended. The device's colour space: no profile is applied.
    let opaque = stored.copy(colorSpace: stored.colorSpace?.model == .rgb ? rgb : CGColorSpaceCreateDeviceGray()) ?? stored
    let context = CGContext(
      data: &bytes, width: stored.width, height: stored.height, bitsPerComponent: 8, bytesPerRow: stored.width * 4,
      space: rgb, bitmapInfo: CGImageAlphaInfo.noneSkipLast.rawValue)
    context?.draw(opaque, in: CGRect(x: 0, y: 0, width: stored.width, height: stored.height))
    let grey = (0..<stored.width * stored.height).map { pixel -> Int in
      let (red, green, blue) = (Int(bytes[pixel * 4]), Int(bytes[pixel * 4 + 1]), Int(bytes[pixel * 4 + 2]))
      return (19595 * red + 38470 * green + 7471 * blue + 32768) >> 16
    }
    let orientation = (properties[kCGImagePropertyOrientation] as? Int) ?? 1
    return upright(grey, stored.width, stored.height, orientation)
  }

  /// Turns pixels by the EXIF orientation, 1 to 8.
  private func upright(_ grey: [Int], _ width: Int, _ height: Int, _ orientation: Int) -> ([Int], Int, Int) {
    let turned = orientation >= 5
    let (newWidth, newHeight) = turned ? (height, width) : (width, height)
    let pixels = (0..<newWidth * newHeight).map { at -> Int in
      let (x, y) = (at % newWidth, at / newWidth)
      let (column, row): (Int, Int)
      switch orientation {
      case 2: (column, row) = (width - 1 - x, y)
      case 3: (column, row) = (width - 1 - x, height - 1 - y)
      case 4: (column, row) = (x, height - 1 - y)
      case 5: (column, row) = (y, x)
      case 6: (column, row) = (y, height - 1 - x)
      case 7: (column, row) = (width - 1 - y, height - 1 - x)
      case 8: (column, row) = (width - 1 - y, x)
      default: (column, row) = (x, y)
      }
      return grey[row * width + column]
    }
    return (pixels, newWidth, newHeight)
  }

  private func resize(_ grey: [Int], _ width: Int, _ height: Int, _ newWidth: Int, _ newHeight: Int) -> [Int] {
    let across = taps(width, newWidth)
    let narrow = (0..<newWidth * height).map { weigh(across[$0 % newWidth], grey, $0 / newWidth * width, 1) }
    let down = taps(height, newHeight)
    return (0..<newWidth * newHeight).map { weigh(down[$0 / newWidth], narrow, $0 % newWidth, newWidth) }
  }

  private typealias Tap = (first: Int, weights: [Int])

  private func weigh(_ tap: Tap, _ pixels: [Int], _ from: Int, _ step: Int) -> Int {
    var sum = 1 << 21
    for (k, weight) in tap.weights.enumerated() { sum += weight * pixels[from + (tap.first + k) * step] }
    return min(max(sum >> 22, 0), 255)
  }

  private func taps(_ size: Int, _ result: Int) -> [Tap] {
    let scale = Double(size) / Double(result)
    let support = max(scale, 1)
    return (0..<result).map { i in
      let centre = (Double(i) + 0.5) * scale
      let first = max(Int(centre - support + 0.5), 0)
      let last = min(Int(centre + support + 0.5), size)
      let shares = (first..<last).map { max(1 - abs((Double($0) - centre + 0.5) / support), 0) }
      let total = shares.reduce(0, +)
      return (first, shares.map { Int($0 / total * Double(1 << 22) + 0.5) })
    }
  }

  private func tensor(_ grey: [Int]) -> [Double] {
    let input = spec.input
    let tables = (0..<input.channels).map { channel in (0..<256).map { element($0, channel) } }
    return (0..<grey.count * input.channels).map {
      input.layout == "nchw"
        ? tables[$0 / grey.count][grey[$0 % grey.count]]
        : tables[$0 % input.channels][grey[$0 / input.channels]]
    }
  }

  private func element(_ pixel: Int, _ channel: Int) -> Double {
    guard let scaling = spec.input.scaling else { return Double(pixel) }
    let value = Double(pixel) * scaling.scale[channel] + scaling.offset[channel]
    guard let step = scaling.step else { return value }
    let (low, high) = spec.input.dtype == "int8" ? (-128.0, 127.0) : (0.0, 255.0)
    return min(max((value / step).rounded(.toNearestOrEven) + Double(scaling.zeroPoint ?? 0), low), high)
  }

  func answer(_ outputs: [String: [Float]]) -> Answer {
    let list = probabilities(outputs["probability"]!.map(Double.init))
    let values = Dictionary(uniqueKeysWithValues: zip(spec.classNames, list))
    let positive = spec.decision.positiveClass
    var label = spec.classNames.filter { $0 != positive }.reduce("") { best, name in
      best.isEmpty || values[name]! > values[best]! ? name : best
    }
    if let positive, values[positive]! >= spec.decision.threshold! { label = positive }
    let distance = spec.inputCheck.map { self.distance($0, outputs["components"]!) }
    return Answer(
      probabilities: values, label: label, predictionSet: predictionSet(values), distance: distance,
      outOfDistribution: distance.map { $0 > spec.inputCheck!.limit })
  }

  private func probabilities(_ values: [Double]) -> [Double] {
    switch spec.scores {
    case "logits":
      let powers = values.map { exp($0 - values.max()!) }
      return powers.map { $0 / powers.reduce(0, +) }
    case "logit":
      let value = 0.5 * (1 + tanh(values[0] / 2))
      return [1 - value, value]
    case "probability": return [1 - values[0], values[0]]
    default: return values
    }
  }

  private func predictionSet(_ values: [String: Double]) -> [String]? {
    guard let bounds = spec.conformal else { return nil }
    if let least = bounds.least { return spec.classNames.filter { values[$0]! >= least[$0]! } }
    let positive = spec.decision.positiveClass!
    return spec.classNames.filter {
      $0 == positive ? values[positive]! >= bounds.leastPositive! : values[positive]! <= bounds.mostNegative!
    }
  }

  private func distance(_ check: Spec.InputCheck, _ components: [Float]) -> Double {
    var at = 0
    return check.parts.map { size -> Double in
      defer { at += size }
      let squares = (at..<at + size).map { pow((Double(components[$0]) - check.mean[$0]) / check.scale[$0], 2) }
      return sqrt(squares.reduce(0, +) / Double(size))
    }.max()!
  }
}
