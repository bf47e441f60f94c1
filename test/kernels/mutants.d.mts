export interface Mutant {
  file: string;
  line: number;
  operator: string;
  text: string;
  source: string;
  from: number;
  to: number;
  plant: string[];
}
export function findMutants(file: string, text: string): Mutant[];
export function plantAll(text: string, mutants: readonly (Mutant & { number: number })[]): string;
